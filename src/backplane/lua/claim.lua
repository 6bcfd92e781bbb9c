-- Takes a saved socket: who asks again after its connection broke finds it, and nobody else does.
--
-- KEYS  1 the socket   2 where it goes, a name of the asking process and for this claim alone
-- ARGV  1 ms the second is kept
--
-- Answers what was saved, or nil.
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
end
return redis.call('GET', KEYS[2])
