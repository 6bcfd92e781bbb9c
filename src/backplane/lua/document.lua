-- Keeps what a node has made of a document, if the document is still what the node has read, and says so to all: or nothing of it.
--
-- KEYS  1 the document   2 the tenant's documents by when they end   3 how many bytes each has, and "" all of them
-- ARGV  1 its id   2 how what is there begins, "" where nothing is   3 what is to be kept   4 how that begins   5 ms it is kept
--       6, 7 documents and bytes of them that a tenant may have   8 PUBLISH or SPUBLISH   9 channel   10 what is said there, or ""
--
-- Answers {1} where that is done, {0, what is there} where something else is, {2} where there is no room for it.
local known, ends, weights = KEYS[1], KEYS[2], KEYS[3]
local head = redis.call('GETRANGE', known, 0, #ARGV[4] - 1)
-- The connection broke after this was done.
if head == ARGV[4] then return { 1 } end
if head ~= ARGV[2] then return { 0, redis.call('GET', known) } end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function text(n) return string.format('%.0f', n) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', text(now), 'LIMIT', 0, 100)) do
  redis.call('ZREM', ends, id)
  redis.call('HINCRBY', weights, '', -tonumber(redis.call('HGET', weights, id) or '0'))
  redis.call('HDEL', weights, id)
end
local was = tonumber(redis.call('HGET', weights, ARGV[1]) or '0')
local more = #ARGV[3] - was
if more > 0 and tonumber(redis.call('HGET', weights, '') or '0') + more > tonumber(ARGV[7]) then return { 2 } end
if head == '' and redis.call('ZCARD', ends) >= tonumber(ARGV[6]) and not redis.call('ZSCORE', ends, ARGV[1]) then
  return { 2 }
end
redis.call('SET', known, ARGV[3], 'PX', ARGV[5])
redis.call('ZADD', ends, text(now + tonumber(ARGV[5])), ARGV[1])
redis.call('HSET', weights, ARGV[1], #ARGV[3])
redis.call('HINCRBY', weights, '', more)
-- Both last as long as the longest of the documents.
local longest = redis.call('ZRANGE', ends, -1, -1, 'WITHSCORES')[2]
redis.call('PEXPIREAT', ends, longest)
redis.call('PEXPIREAT', weights, longest)
if ARGV[10] ~= '' then redis.call(ARGV[8], ARGV[9], ARGV[10]) end
return { 1 }
