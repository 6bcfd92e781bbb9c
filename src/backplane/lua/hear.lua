-- Gives a message of a plain channel its id: the one that another node proposed for it, or else this node's.
--
-- A channel's message comes to every node that listens, each with its own clock and some later than others. The same text said twice is two
-- messages: each node takes the oldest that it has not taken yet.
--
-- KEYS  1 what was heard lately of this text
-- ARGV  1 origin   2 ms since this node heard it   3 id it proposes   4 ms within which what nodes heard is one message
--       5 messages that are kept at most
--
-- Answers { id, "1" if no other node had it before }.
local time = redis.call('TIME')
local heard = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[2])
local mine, window = ' ' .. ARGV[1] .. ' ', tonumber(ARGV[4])
local entries = redis.call('LRANGE', KEYS[1], 0, -1)
for i, entry in ipairs(entries) do
  local at, id, who = string.match(entry, '^(%d+) (%S+)( .*)$')
  if at and math.abs(tonumber(at) - heard) <= window and not string.find(who, mine, 1, true) then
    -- Each taker's name has a blank on both sides.
    redis.call('LSET', KEYS[1], i - 1, entry .. ARGV[1] .. ' ')
    return { id, '0' }
  end
end
redis.call('RPUSH', KEYS[1], string.format('%.0f', heard) .. ' ' .. ARGV[3] .. mine)
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[5]), -1)
redis.call('PEXPIRE', KEYS[1], 2 * window)
return { ARGV[3], '1' }
