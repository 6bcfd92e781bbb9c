-- What waits for a user: read, done, or kept again. Behind the functions of queue.lua.
--
-- KEYS  1 the tenant's hash   2, 3, 4 bodies, users, ages   5 the room's stream, to keep again
-- ARGV  read: 1 "read"   2 user
--       done: 1 "done"   2 epoch   3 a user that was told of what was dropped, or ""   4 of how many   5.. sequences
--       keep: 1 "keep"   2 epoch   3 user   4.. the bounds, see queue.lua   9.. sequences
--
-- Answers to read { epoch, sequence, dropped, Unix ms of now, sequence, entry, .. }, else 1 if the store's epoch is the one named.
local at = waiting.keys(2)
local stands = redis.call('HMGET', KEYS[1], 'e', 's')
if ARGV[1] == 'read' then
  local now = waiting.now()
  waiting.expire(at, now)
  local answer = { stands[1] or '', stands[2] or '0', redis.call('HGET', at.bodies, 'd:' .. ARGV[2]) or '0', waiting.text(now) }
  for _, member in ipairs(waiting.of(at, ARGV[2])) do
    local sequence = waiting.text(tonumber(string.sub(member, -16)))
    local raw = redis.call('HGET', at.bodies, sequence)
    if raw then
      answer[#answer + 1] = sequence
      answer[#answer + 1] = raw
    end
  end
  return answer
end
-- Of a life that the store does not know: those places are other events' by now.
if stands[1] ~= ARGV[2] then return 0 end
if ARGV[1] == 'done' then
  if ARGV[3] ~= '' then
    local field = 'd:' .. ARGV[3]
    local left = tonumber(redis.call('HGET', at.bodies, field) or '0') - tonumber(ARGV[4])
    if left > 0 then redis.call('HSET', at.bodies, field, waiting.text(left)) else redis.call('HDEL', at.bodies, field) end
  end
  for nth = 5, #ARGV do waiting.take(at, ARGV[nth]) end
  return 1
end
local bounds = {}
for nth = 1, 5 do bounds[nth] = tonumber(ARGV[3 + nth]) end
for nth = 9, #ARGV do
  local sequence = ARGV[nth]
  local raw = redis.call('HGET', at.bodies, sequence)
  if raw then
    -- It waits already; now it is in doubt, too.
    redis.call('HSET', at.bodies, sequence, string.sub(raw, 1, 32) .. '\1' .. string.sub(raw, 34))
  else
    local entry = redis.call('XRANGE', KEYS[5], sequence .. '-0', sequence .. '-18446744073709551615', 'COUNT', 1)[1]
    if entry then
      local event = { sequence = tonumber(sequence), offset = tonumber(string.match(entry[1], '%-(%d+)$')), doubt = 1 }
      local fields = entry[2]
      for i = 1, #fields, 2 do
        if fields[i] == 'e' then event.epoch = tonumber(fields[i + 1]) end
        if fields[i] == 't' then event.time = tonumber(fields[i + 1]) end
        if fields[i] == 'b' then event.body = fields[i + 1] end
      end
      waiting.put(at, ARGV[3], event, bounds, waiting.now())
    end
  end
end
return 1
