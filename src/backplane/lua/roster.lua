-- Who is there, as nodes have said whose lease is not over.
--
-- KEYS  1 the tenant's channel, which all names begin with
-- ARGV  1 what is asked   2 ms a lease counts; then
--       room    its name, and how many are listed: answers { how many there are, of each user, stance, last sign of life, sockets }
--       users   their names: answers of each { "1" if it is there, stance, sessions, last sign of life, rooms }
--       nodes   a room, and how many places in it are looked at: answers the processes on which sockets are in it, all where there are more
--       rooms   how many are listed: answers { how many there are, of each name, sockets }
--       totals  answers { sessions, users, rooms }
local base, asked, valid = KEYS[1], ARGV[1], tonumber(ARGV[2])
local leases, users, seats, counts = base .. ':n', base .. ':u', base .. ':w', base .. ':c'
local sessions = redis.call('HGET', counts, '')
local rooms_count = redis.call('HLEN', counts) - (sessions and 1 or 0)
if asked == 'totals' then return { tonumber(sessions or '0'), redis.call('HLEN', users), rooms_count } end
local answer = {}
if asked == 'rooms' then
  answer[1] = rooms_count
  local cursor, max = '0', tonumber(ARGV[3])
  repeat
    local page = redis.call('HSCAN', counts, cursor, 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      if page[2][i] ~= '' and #answer < 2 * max then
        answer[#answer + 1] = page[2][i]
        answer[#answer + 1] = page[2][i + 1]
      end
    end
  until cursor == '0' or #answer >= 2 * max
  return answer
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function text(n) return string.format('%.0f', n) end
-- Who is connected was there when its node last said so.
local live, names = {}, {}
local list = redis.call('ZRANGEBYSCORE', leases, text(now), '+inf', 'WITHSCORES')
for i = 1, #list, 2 do
  live[list[i]] = tonumber(list[i + 1]) - valid
  names[#names + 1] = list[i]
end
local function seen(row, node)
  local sessions, at = struct.unpack('>I4I8', row)
  if sessions > 0 then at = math.max(at, live[node]) end
  return at, sessions
end

if asked == 'nodes' then
  local prefix = struct.pack('>I2c0', #ARGV[3], ARGV[3])
  local from, to = '[' .. prefix, '(' .. prefix .. '\255\255\255'
  if redis.call('ZLEXCOUNT', seats, from, to) > tonumber(ARGV[4]) then return names end
  local found = {}
  for _, member in ipairs(redis.call('ZRANGEBYLEX', seats, from, to)) do
    local _, _, sockets, at = struct.unpack('>I2c0I2c0I4', member)
    local node = string.sub(member, at)
    if sockets > 0 and live[node] and not found[node] then
      found[node] = true
      answer[#answer + 1] = node
    end
  end
  return answer
end

if asked == 'room' then
  local prefix = struct.pack('>I2c0', #ARGV[3], ARGV[3])
  local from, to = '[' .. prefix, '(' .. prefix .. '\255\255\255'
  answer[1] = redis.call('ZLEXCOUNT', seats, from, to)
  for _, member in ipairs(redis.call('ZRANGEBYLEX', seats, from, to, 'LIMIT', 0, ARGV[4])) do
    local _, user, sockets, at = struct.unpack('>I2c0I2c0I4', member)
    local node = string.sub(member, at)
    local head, row = redis.call('HGET', users, user), redis.call('HGET', base .. ':n:' .. node, user)
    if live[node] and head and row then
      answer[#answer + 1] = user
      answer[#answer + 1] = string.sub(head, 9)
      answer[#answer + 1] = text(seen(row, node))
      answer[#answer + 1] = text(sockets)
    end
  end
  return answer
end

for i = 3, #ARGV do
  local user = ARGV[i]
  local head, rooms, sum, latest = redis.call('HGET', users, user), {}, 0, 0
  local is_there = false
  for _, node in ipairs(names) do
    local row = head and redis.call('HGET', base .. ':n:' .. node, user)
    if row then
      is_there = true
      local at, here = seen(row, node)
      sum, latest = sum + here, math.max(latest, at)
      local place = 13
      while place <= #row do
        local _, _, room, next = struct.unpack('>I4BI2c0', row, place)
        rooms[room], place = true, next
      end
    end
  end
  local list = {}
  for room in pairs(rooms) do list[#list + 1] = room end
  if is_there then
    answer[#answer + 1] = { '1', string.sub(head, 9), text(sum), text(latest), list }
  else
    local left = redis.call('ZSCORE', base .. ':l', user)
    local stance = redis.call('HGET', base .. ':a', user) or head and string.sub(head, 9) or ''
    answer[#answer + 1] = { '0', stance, '0', left or '', list }
  end
end
return answer
