-- Keeps documents for longer, as they are.
--
-- KEYS  1 the tenant's documents by when they end   2 how many bytes each has   3.. documents
-- ARGV  of each document its id, and ms it is kept
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local longest = 0
for nth = 3, #KEYS do
  local id, ms = ARGV[nth * 2 - 5], ARGV[nth * 2 - 4]
  if redis.call('PEXPIRE', KEYS[nth], ms) == 1 then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ms)), id)
    longest = math.max(longest, tonumber(ms))
  end
end
for nth = 1, 2 do
  if redis.call('PTTL', KEYS[nth]) < longest then redis.call('PEXPIRE', KEYS[nth], longest) end
end
return 1
