-- What waits for users who are not there: functions for the scripts that come behind this text. `at` names a tenant's keys:
--
-- bodies  hash: sequence -> entry; `b` what all entries count, `b:<user>` what a user's count, `d:<user>` how many of them were dropped, untold
-- users   sorted set of "<user>\0<sequence in 16 digits>", all of the same score; no user's name has a byte 0 here
-- ages    sorted set: sequences by the Unix ms until which they wait
--
-- entry   I8 the room's epoch  I8 offset  I8 Unix ms of the event  I8 Unix ms until it waits  B in doubt  I4 what it counts
--         I2 length of the user's name, the name, the event's body
local LAYOUT = '>I8I8I8I8BI4I2'
local waiting = {}

function waiting.text(n) return string.format('%.0f', n) end

function waiting.now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

function waiting.keys(from)
  return { bodies = KEYS[from], users = KEYS[from + 1], ages = KEYS[from + 2] }
end

-- The members of a user among `users`.
function waiting.of(at, user, count)
  local first, last = '[' .. user .. '\0', '(' .. user .. '\1'
  if count then return redis.call('ZRANGEBYLEX', at.users, first, last, 'LIMIT', 0, count) end
  return redis.call('ZRANGEBYLEX', at.users, first, last)
end

-- Takes an entry out; `dropped` says that nobody has got it.
function waiting.take(at, sequence, dropped)
  local raw = redis.call('HGET', at.bodies, sequence)
  redis.call('ZREM', at.ages, sequence)
  if not raw then return end
  local _, _, _, _, _, cost, size, from = struct.unpack(LAYOUT, raw)
  local user = string.sub(raw, from, from + size - 1)
  redis.call('HDEL', at.bodies, sequence)
  redis.call('ZREM', at.users, user .. '\0' .. string.format('%016.0f', tonumber(sequence)))
  if redis.call('HINCRBY', at.bodies, 'b', -cost) <= 0 then redis.call('HDEL', at.bodies, 'b') end
  if redis.call('HINCRBY', at.bodies, 'b:' .. user, -cost) <= 0 then
    -- Whose queue is empty is told nothing of it.
    redis.call('HDEL', at.bodies, 'b:' .. user, 'd:' .. user)
  elseif dropped then
    redis.call('HINCRBY', at.bodies, 'd:' .. user, 1)
  end
end

-- Forgets what has waited long enough; the rest of it the next time.
function waiting.expire(at, now)
  for _, sequence in ipairs(redis.call('ZRANGEBYSCORE', at.ages, '-inf', waiting.text(now), 'LIMIT', 0, 100)) do
    waiting.take(at, sequence)
  end
end

-- Puts an event into a user's queue, at its place, and drops what is too much: of the user's the oldest, of the tenant's the oldest of all.
-- bounds { ttl, events of a user, bytes of a user, bytes of a tenant, bytes that an entry counts besides its body }
function waiting.put(at, user, event, bounds, now)
  waiting.expire(at, now)
  local sequence, cost = waiting.text(event.sequence), #event.body + bounds[5]
  local ends = now + bounds[1]
  redis.call('HSET', at.bodies, sequence,
    struct.pack(LAYOUT, event.epoch, event.offset, event.time, ends, event.doubt, cost, #user) .. user .. event.body)
  redis.call('ZADD', at.users, 0, user .. '\0' .. string.format('%016.0f', event.sequence))
  redis.call('ZADD', at.ages, waiting.text(ends), sequence)
  local all, own = redis.call('HINCRBY', at.bodies, 'b', cost), redis.call('HINCRBY', at.bodies, 'b:' .. user, cost)
  local count = redis.call('ZLEXCOUNT', at.users, '[' .. user .. '\0', '(' .. user .. '\1')
  while count > bounds[2] or (own > bounds[3] and count > 1) do
    local oldest = waiting.of(at, user, 1)[1]
    if not oldest then break end
    waiting.take(at, waiting.text(tonumber(string.sub(oldest, -16))), true)
    count = count - 1
    own = tonumber(redis.call('HGET', at.bodies, 'b:' .. user) or '0')
  end
  while all > bounds[4] do
    local oldest = redis.call('ZRANGE', at.ages, 0, 0)[1]
    if not oldest then break end
    waiting.take(at, oldest, true)
    all = tonumber(redis.call('HGET', at.bodies, 'b') or '0')
  end
  for _, key in pairs(at) do redis.call('PEXPIRE', key, bounds[1] + 1000) end
end
