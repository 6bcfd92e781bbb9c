-- Where a tenant's stream stands; gives it an epoch where it has none, or where the store has lost what others have seen.
--
-- KEYS  1 the tenant's hash
-- ARGV  1 epoch to take   2, 3 epoch and sequence that this process has seen, or "" and 0   4 ms the tenant is kept
--
-- Answers { epoch, sequence, birth mark of rooms that never had events, sequence up to which rooms were lost }.
local was = redis.call('HMGET', KEYS[1], 'e', 's', 'c', 'b')
local epoch, last, birth, broken = was[1], was[2] or '0', was[3] or '0', was[4] or '0'
if not epoch or (epoch == ARGV[2] and tonumber(last) < tonumber(ARGV[3])) then
  epoch, birth, broken = ARGV[1], last, last
  redis.call('HSET', KEYS[1], 'e', epoch, 's', last, 'c', birth, 'b', broken)
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return { epoch, last, birth, broken }
