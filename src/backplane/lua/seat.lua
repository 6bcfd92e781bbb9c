-- Takes a node's number for a while, or keeps it, or gives it back.
--
-- KEYS  1 the number
-- ARGV  1 the process   2 ms it is taken for; 0 to give it back
--
-- Answers 1 if it is this process', 0 if another one has it.
local has = redis.call('GET', KEYS[1])
if has and has ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
