-- Gives an event its place, keeps it, and publishes it: all of it or nothing. Behind the functions of queue.lua.
--
-- KEYS  1 the tenant's hash  2 the tenant's rooms  3 the room's stream  4 places of this process' newest batch
--       5 the receipt, where the publisher chose an id; where there are more keys and it did not, the first again
--       6, 7, 8 bodies, users, ages of what waits   9, 10 events whose senders are told, see receipt.lua; where the event has to do with either
-- ARGV  1 epoch to take if there is none   2, 3 epoch and sequence that this process has seen, or "" and 0
--       4 origin   5 number of this append   6 number of the append that has to be done before this one, or ""
--       7 room   8 body   9 events the room keeps   10 ms the room is kept   11 ms the receipt is kept   12 ms the tenant is kept
--       13 channel   14 PUBLISH or SPUBLISH   15 ms the places are kept: with the first of a batch that is kept there, else ""
--       16, 17 rooms that are known at most, and how many are forgotten beyond
--       with keys 6 to 10: 18 the user for whom it waits, or ""   19.. the bounds, see queue.lua
--       24 the sender who is told, or ""   25 the event's id   26 ms it is told   27 events of a tenant whose senders are told, at most
--       14 XADD: the event is not published, but added to the stream that is shared with servers of another make, the last key; 13 is then how
--       many of the last arguments are of it: rows it keeps, our uid, tenant, what stands for the room's epoch and for the offset in the
--       data, data, namespaces
--
-- Answers { sequence, room's epoch, offset, "1" if it is the event of an earlier publish }, or {} where the one before is not done.
-- Numbers stay below 2^53, where doubles are exact.
local fleet = ARGV[14] == 'XADD' and table.remove(KEYS)
local hash, rooms, stream, batch = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local receipt = KEYS[5] ~= hash and KEYS[5]
local tag = ARGV[4] .. ':' .. ARGV[5]
local field = 'n:' .. ARGV[4]
local number = tonumber(ARGV[5])
local text = waiting.text
local function value(entry, name)
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end
local function place(entry)
  local sequence, offset = string.match(entry[1], '^(%d+)%-(%d+)$')
  return tonumber(sequence), tonumber(offset)
end

local now = waiting.now()
local was = redis.call('HMGET', hash, 'e', 's', 'c', 'b', field, 'p')
local epoch, last = tonumber(was[1] or ARGV[1]), tonumber(was[2] or '0')
local birth, broken = tonumber(was[3] or '0'), tonumber(was[4] or '0')
local done = tonumber(string.match(was[5] or '0', '^%d+'))
local kept = receipt and redis.call('GET', receipt)
if kept then
  local s, re, o, who = string.match(kept, '^(%d+) (%d+) (%d+) (.*)$')
  if s then
    if done < number then redis.call('HSET', hash, field, ARGV[5] .. ' ' .. text(now)) end
    return { s, re, o, who == tag and '0' or '1' }
  end
end
if done >= number then
  -- The connection broke after this was done.
  local s, re, o = string.match(redis.call('HGET', batch, ARGV[5]) or '', '^(%d+) (%d+) (%d+)$')
  if s then return { s, re, o, '0' } end
  -- Asked again after a very long time: it is done, but nobody knows its place any more.
  return { text(last), text(epoch + last), '0', '0' }
end
if ARGV[6] ~= '' and done < tonumber(ARGV[6]) then return {} end

if was[1] == ARGV[2] and last < tonumber(ARGV[3]) then
  -- The store has lost what others have seen: a replica that was behind was promoted, or the newest writes did not reach the disk.
  epoch, birth, broken = tonumber(ARGV[1]), last, last
end
local sequence = last + 1
local head = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local room_epoch, offset
if head then
  local s, o = place(head)
  if s > broken and s < sequence then
    room_epoch, offset = tonumber(value(head, 'e')), o + 1
  else
    redis.call('DEL', stream)
  end
end
if not offset then
  -- What a reader of the room without events was told, see the reading of rooms.
  room_epoch, offset = epoch + tonumber(redis.call('ZSCORE', rooms, ARGV[7]) or birth), 1
end
local is_new = redis.call('ZADD', rooms, sequence, ARGV[7]) == 1
redis.call('XADD', stream, 'MAXLEN', ARGV[9], text(sequence) .. '-' .. text(offset),
  'e', text(room_epoch), 'b', ARGV[8], 't', text(now))
redis.call('PEXPIRE', stream, ARGV[10])
local marks = not was[1] or epoch ~= tonumber(was[1])
if is_new and redis.call('ZCARD', rooms) > tonumber(ARGV[16]) then
  redis.call('ZREMRANGEBYRANK', rooms, 0, tonumber(ARGV[17]) - 1)
  birth, marks = sequence, true
end
if not was[5] and redis.call('HLEN', hash) > 100 then
  -- Processes come and go: those that have not appended for a day are no more.
  local all = redis.call('HGETALL', hash)
  for i = 1, #all, 2 do
    local at = string.match(all[i], '^n:') and tonumber(string.match(all[i + 1], ' (%d+)$') or '0')
    if at and at < now - 86400000 then redis.call('HDEL', hash, all[i]) end
  end
end
redis.call('HSET', hash, 's', text(sequence), field, ARGV[5] .. ' ' .. text(now))
if marks then redis.call('HSET', hash, 'e', text(epoch), 'c', text(birth), 'b', text(broken)) end
if marks or is_new or now > tonumber(was[6] or '0') + 60000 then
  -- Not at each append: what is kept for days may end a minute sooner.
  redis.call('HSET', hash, 'p', text(now))
  for _, key in ipairs({ hash, rooms }) do
    -- Longer where something waits for longer: what waits has its places in this epoch.
    if redis.call('PTTL', key) < tonumber(ARGV[12]) then redis.call('PEXPIRE', key, ARGV[12]) end
  end
end
local where = text(sequence) .. ' ' .. text(room_epoch) .. ' ' .. text(offset)
if receipt and tonumber(ARGV[11]) > 0 then
  redis.call('SET', receipt, where .. ' ' .. tag, 'PX', ARGV[11])
else
  -- The first of a batch: all before it were answered.
  if ARGV[15] ~= '' then redis.call('DEL', batch) end
  redis.call('HSET', batch, ARGV[5], where)
  if ARGV[15] ~= '' then redis.call('PEXPIRE', batch, ARGV[15]) end
end
if KEYS[6] and ARGV[18] ~= '' then
  local bounds = {}
  for nth = 1, 5 do bounds[nth] = tonumber(ARGV[18 + nth]) end
  local event = { sequence = sequence, epoch = room_epoch, offset = offset, time = now, doubt = 0, body = ARGV[8] }
  waiting.put(waiting.keys(6), ARGV[18], event, bounds, now)
  if bounds[1] > tonumber(ARGV[12]) then
    redis.call('PEXPIRE', hash, bounds[1] + 60000)
    redis.call('PEXPIRE', rooms, bounds[1] + 60000)
  end
end
if KEYS[6] and ARGV[24] ~= '' then
  local tracked, order = KEYS[9], KEYS[10]
  local ends = now + tonumber(ARGV[26])
  redis.call('HSET', tracked, ARGV[25], cmsgpack.pack({ ends, ARGV[24], ARGV[7], {} }))
  redis.call('ZADD', order, text(ends), ARGV[25])
  local spare = redis.call('ZRANGEBYSCORE', order, '-inf', text(now), 'LIMIT', 0, 100)
  if redis.call('ZCARD', order) - #spare > tonumber(ARGV[27]) then spare[#spare + 1] = redis.call('ZRANGE', order, #spare, #spare)[1] end
  for _, id in ipairs(spare) do
    redis.call('HDEL', tracked, id)
    redis.call('ZREM', order, id)
  end
  for _, key in ipairs({ tracked, order }) do redis.call('PEXPIRE', key, ARGV[26]) end
end
local frame = struct.pack('>BBI8I8I8I8', 1, 1, epoch, sequence, room_epoch, offset) .. ARGV[8]
if fleet then
  local function base36(number)
    local out = ''
    repeat
      local digit = number % 36
      out = string.sub('0123456789abcdefghijklmnopqrstuvwxyz', digit + 1, digit + 1) .. out
      number = (number - digit) / 36
    until number == 0
    return out
  end
  local at = #ARGV - tonumber(ARGV[13])
  local data = string.gsub(ARGV[at + 6], ARGV[at + 4], base36(room_epoch))
  data = string.gsub(data, ARGV[at + 5], text(offset))
  local id = '*'
  -- Nothing comes between them: who has one of them has the event. The first has what our nodes read.
  for nth = at + 7, #ARGV do
    local row = { fleet, 'MAXLEN', '~', ARGV[at + 1], id, 'uid', ARGV[at + 2], 'nsp', ARGV[nth], 'type', '3', 'data', data }
    if id == '*' then
      for _, field in ipairs({ 'tenant', ARGV[at + 3], 'rows', text(#ARGV - at - 6), 'frame', frame }) do row[#row + 1] = field end
    end
    local ms, n = string.match(redis.call('XADD', unpack(row)), '^(%d+)%-(%d+)$')
    id = ms .. '-' .. text(tonumber(n) + 1)
  end
else
  redis.call(ARGV[14], ARGV[13], frame)
end
return { text(sequence), text(room_epoch), text(offset), '0' }
