-- Keeps a socket, or forgets it: unless what is kept of it has come back more often, or was claimed since.
--
-- KEYS  1 the socket   2 where it is kept in the form in which servers of another make take it: then only there
-- ARGV  1 how often it has come back   2 what is kept; "" to forget it   3 ms it is kept
--
-- Answers 1 if that was done.
local kept = redis.call('GETRANGE', KEYS[1], 0, 3)
if #kept == 4 and struct.unpack('>I4', kept) > tonumber(ARGV[1]) then return 0 end
if KEYS[2] then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
elseif ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
