-- A user has got or read events: whose senders are to hear of it.
--
-- KEYS  1 events whose senders are told: hash of id -> { Unix ms until, sender, room, { user = "1" or "2" and the number it was told by } }
--       2 their ids by that time
-- ARGV  1 user   2 what is told: 1 delivered, 2 read   3 a number of this question: asked again by it, it is answered as before
--       4 users of an event at most   5 "" where the event was for this user; else the number of rooms that count   6.. these rooms, then ids
--
-- Answers { id, sender, .. } of what is news; nothing of less than was told before.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local user, told, tag = ARGV[1], tonumber(ARGV[2]), ARGV[2] .. ' ' .. ARGV[3]
local rooms, first = nil, 6
if ARGV[5] ~= '' then
  rooms, first = {}, 6 + tonumber(ARGV[5])
  for nth = 6, first - 1 do rooms[ARGV[nth]] = true end
end
local answer = {}
for nth = first, #ARGV do
  local id = ARGV[nth]
  local raw = redis.call('HGET', KEYS[1], id)
  local event = raw and cmsgpack.unpack(raw)
  if event and event[1] > now and event[2] ~= user and (not rooms or rooms[event[3]]) then
    local before, count = event[4][user], 0
    for _ in pairs(event[4]) do count = count + 1 end
    local is_news = before and tonumber(string.sub(before, 1, 1)) < told or not before and count < tonumber(ARGV[4])
    if is_news then
      event[4][user] = tag
      redis.call('HSET', KEYS[1], id, cmsgpack.pack(event))
    end
    if is_news or before == tag then
      answer[#answer + 1] = id
      answer[#answer + 1] = event[2]
    end
  end
end
return answer
