-- Takes a saved socket: who asks again after its connection broke finds it, and nobody else does. What is left in its place says how often it
-- has come back now: who still believes in an older connection cannot keep that any more.
--
-- KEYS  1 the socket   2 where it goes, a name of the asking process and for this claim alone
--       3 where servers of another make keep it, and take it from: it is looked for there first, and answered behind four bytes 255
-- ARGV  1 ms the second is kept
--
-- Answers what was saved, or nil.
local session = KEYS[3] and redis.call('GET', KEYS[3])
if session then
  redis.call('DEL', KEYS[3])
  redis.call('SET', KEYS[2], '\255\255\255\255' .. session, 'PX', ARGV[1])
  return redis.call('GET', KEYS[2])
end
local kept = redis.call('GET', KEYS[1])
if kept and #kept > 4 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  local ttl = redis.call('PTTL', KEYS[2])
  redis.call('SET', KEYS[1], struct.pack('>I4', struct.unpack('>I4', kept) + 1), 'PX', math.max(ttl, 1))
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
end
return redis.call('GET', KEYS[2])
