-- Keeps a socket, or forgets it: unless what is kept of it has come back more often, or was claimed since.
--
-- KEYS  1 the socket   2 where it is kept in the form in which servers of another make take it: then the first only says how often it has
--       come back, so that what a life before it says late is not kept
-- ARGV  1 how often it has come back; 4294967295: it is given back as it was taken   2 what is kept; "" to forget it   3 ms it is kept
--
-- Answers 1 if that was done.
local kept = redis.call('GETRANGE', KEYS[1], 0, 3)
if #kept == 4 and struct.unpack('>I4', kept) > tonumber(ARGV[1]) then return 0 end
if KEYS[2] then
  local came = tonumber(ARGV[1])
  if came < 4294967295 then redis.call('SET', KEYS[1], struct.pack('>I4', came), 'PX', ARGV[3]) end
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
elseif ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
