-- How many connections of an address a shard of a process has, and how many all have.
--
-- KEYS  1 the address' connections
-- ARGV  1 the process and its shard   2 how many they are   3 ms that counts
--
-- Answers how many there are of all whose time is not over.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now + tonumber(ARGV[3])))
local all, total = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #all, 2 do
  local count, ends = string.match(all[i + 1], '^(%d+) (%d+)$')
  if count and tonumber(count) > 0 and tonumber(ends) > now then
    total = total + tonumber(count)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return total
