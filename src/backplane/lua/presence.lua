-- Renews a node's lease, takes away what nodes have said whose lease is over, and takes down what this one says of its users; notes who came,
-- went or changed to everybody who hears the tenant.
--
-- KEYS  1 the tenant's channel, which all names begin with: they are of one slot
-- ARGV  1 origin, or "" of who only comes by   2 ms the lease counts   3 ms it is remembered when a user was last seen, or 0
--       4, 5 users that are remembered at most, and how many are forgotten beyond   6 PUBLISH or SPUBLISH   7 ms all this is kept
--       8 rows that are taken away at most; then of each change:
--       user   flags: s what it says of itself counts, k others know it, t this node has told its own   stance   row, "" of who is gone
--       last sign of life
--
-- Answers { of each change { stance, "1" if it was there before or still is, sessions }, the tenant's sessions, "1" if more is to be taken away }.
--
-- A row: sessions (4 bytes), last sign of life (8), then of each room sockets (4), watched (1), name behind its length (2).
local base, origin = KEYS[1], ARGV[1]
local leases, users, seats, counts = base .. ':n', base .. ':u', base .. ':w', base .. ':c'
local past, absent = base .. ':l', base .. ':a'
local valid, remember = tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local notes = {}
local function text(n) return string.format('%.0f', n) end
local function rows(node) return base .. ':n:' .. node end
local function note(but, room, user, from, to, seen)
  notes[#notes + 1] = struct.pack('>I2c0I2c0I2c0I2c0I2c0I8', #but, but, #room, room, #user, user, #from, from, #to, to, seen)
end
local function read(row)
  local rooms = {}
  if not row then return 0, rooms end
  local at = 13
  while at <= #row do
    local sockets, watched, room
    sockets, watched, room, at = struct.unpack('>I4BI2c0', row, at)
    rooms[room] = { sockets, watched == 1 }
  end
  return struct.unpack('>I4', row), rooms
end
local function seat(room, user, sockets, node)
  return struct.pack('>I2c0I2c0I4c0', #room, room, #user, user, sockets, node)
end
local function is_in(room, user)
  local prefix = struct.pack('>I2c0I2c0', #room, room, #user, user)
  return redis.call('ZLEXCOUNT', seats, '[' .. prefix, '(' .. prefix .. '\255\255\255\255\255') > 0
end
local function count(field, delta)
  if delta ~= 0 and redis.call('HINCRBY', counts, field, delta) <= 0 then redis.call('HDEL', counts, field) end
end

-- Takes a user's place in rooms from what a node had said to what it says.
local function move(node, user, old, new, stance, flags, seen)
  local but = flags.t and node or ''
  for room, was in pairs(old) do
    local is = new[room]
    if not is or is[1] ~= was[1] then
      redis.call('ZREM', seats, seat(room, user, was[1], node))
      count(room, (is and is[1] or 0) - was[1])
      if is then
        redis.call('ZADD', seats, 0, seat(room, user, is[1], node))
      elseif was[2] and not is_in(room, user) then
        note(but, room, user, stance, '', seen)
      end
    end
  end
  for room, is in pairs(new) do
    if not old[room] then
      local joins = is[2] and not flags.k and not is_in(room, user)
      redis.call('ZADD', seats, 0, seat(room, user, is[1], node))
      count(room, is[1])
      if joins then note(but, room, user, '', stance, seen) end
    end
  end
end

local function say(node, user, flags, stance, row, seen)
  local was, head = redis.call('HGET', rows(node), user), redis.call('HGET', users, user)
  local is_here, but = row ~= '', flags.t and node or ''
  local before, sessions, nodes = '', 0, 0
  if head then
    sessions, nodes = struct.unpack('>I4I4', head)
    before = string.sub(head, 9)
  end
  local old_sessions, old = read(was)
  local new_sessions, new = read(is_here and row)
  sessions = math.max(0, sessions + new_sessions - old_sessions)
  nodes = math.max(0, nodes + (is_here and 1 or 0) - (was and 1 or 0))
  count('', new_sessions - old_sessions)
  local after = (head and not flags.s) and before or stance
  if is_here then
    redis.call('HSET', rows(node), user, row)
    redis.call('HSET', users, user, struct.pack('>I4I4', sessions, nodes) .. after)
    local answer = head and after or redis.call('HGET', absent, user) or ''
    if not head then
      local told_gone = redis.call('ZREM', past, user) == 1
      redis.call('HDEL', absent, user)
      if not flags.k or told_gone then note(but, '', user, '', after, seen) end
    elseif before ~= after then
      note(but, '', user, before, after, seen)
      local watched = {}
      for _, other in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
        local _, rooms = read(redis.call('HGET', rows(other), user))
        for room, is in pairs(rooms) do watched[room] = watched[room] or is[2] end
      end
      for room, is in pairs(watched) do
        if is then note(but, room, user, before, after, seen) end
      end
    end
    move(node, user, old, new, after, flags, seen)
    return { answer, head and '1' or '0', sessions }
  end
  redis.call('HDEL', rows(node), user)
  move(node, user, old, new, before, flags, seen)
  if nodes > 0 then
    redis.call('HSET', users, user, struct.pack('>I4I4', sessions, nodes) .. before)
    return { before, '1', sessions }
  end
  redis.call('HDEL', users, user)
  if head then
    note(but, '', user, before, '', seen)
  elseif flags.k and remember > 0 and not redis.call('ZSCORE', past, user) then
    -- The store has forgotten it, and those who knew that it was there have not.
    before = stance
    note(but, '', user, before, '', seen)
  end
  if remember > 0 and before ~= '' then
    redis.call('ZADD', past, text(seen), user)
    redis.call('HSET', absent, user, before)
  end
  return { '', '0', 0 }
end

local keeps = #ARGV == 8
if origin ~= '' then
  local mine = redis.call('ZSCORE', leases, origin)
  if mine and tonumber(mine) < now then
    -- This node was cut off, and maybe all were, with the store: nobody is judged before there was time to come back.
    for _, node in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', '(' .. text(now))) do
      redis.call('ZADD', leases, text(now + valid), node)
    end
  end
  keeps = keeps or not mine
  redis.call('ZADD', leases, text(now + valid), origin)
end

local left, more = tonumber(ARGV[8]), '0'
for _, node in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', '(' .. text(now))) do
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', rows(node), cursor, 'COUNT', 100)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      if left > 0 then
        left = left - 1
        say(node, page[2][i], {}, '', '', (struct.unpack('>I8', page[2][i + 1], 5)))
      end
    end
  until cursor == '0' or left <= 0
  if redis.call('EXISTS', rows(node)) == 0 then redis.call('ZREM', leases, node) else more = '1' end
  if left <= 0 then break end
end

local said = {}
for i = 9, #ARGV, 5 do
  local flags = {}
  for flag in string.gmatch(ARGV[i + 1], '.') do flags[flag] = true end
  said[#said + 1] = say(origin, ARGV[i], flags, ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4]))
end

if remember > 0 then
  local old = redis.call('ZRANGEBYSCORE', past, '-inf', text(now - remember), 'LIMIT', 0, 100)
  if redis.call('ZCARD', past) > tonumber(ARGV[4]) then old = redis.call('ZRANGE', past, 0, tonumber(ARGV[5]) - 1) end
  for _, user in ipairs(old) do
    redis.call('ZREM', past, user)
    redis.call('HDEL', absent, user)
  end
end
if keeps then
  for _, key in ipairs({ leases, users, seats, counts, past, absent, rows(origin) }) do
    redis.call('PEXPIRE', key, ARGV[7])
  end
end
if #notes > 0 then redis.call(ARGV[6], base, struct.pack('BB', 1, 3) .. table.concat(notes)) end
return { said, tonumber(redis.call('HGET', counts, '') or '0'), more }
