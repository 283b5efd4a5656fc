-- Puts a message at the end of a topic, once for each idempotency key.
-- KEYS: the stream; the hash of its epoch `e`, newest number `n` and bytes `b`; the key.
-- ARGV: how long the key is remembered (ms); an epoch, if a new one begins; the most
-- events; the most bytes (0: any); flags; payload; and the conflation key, if any.
local before = redis.call('GET', KEYS[3])
if before then
  return before
end
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch then
  epoch = ARGV[2]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'e', epoch)
end
local id = epoch .. '-' .. string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'n', 1))
local entry = { 'f', ARGV[5], 'd', ARGV[6] }
if ARGV[7] then
  entry[5] = 'k'
  entry[6] = ARGV[7]
end
local most = tonumber(ARGV[3])
if ARGV[4] == '0' then
  redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[3], id, unpack(entry))
else
  redis.call('XADD', KEYS[1], id, unpack(entry))
  local size = #ARGV[6] + (ARGV[7] and #ARGV[7] or 0)
  local bytes = redis.call('HINCRBY', KEYS[2], 'b', size)
  local length = redis.call('XLEN', KEYS[1])
  while length > 1 and (length > most or bytes > tonumber(ARGV[4])) do
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
    size = 0
    for i = 1, #oldest, 2 do
      if oldest[i] ~= 'f' then
        size = size + #oldest[i + 1]
      end
    end
    length = length - 1
    redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', length)
    bytes = redis.call('HINCRBY', KEYS[2], 'b', -size)
  end
end
redis.call('SET', KEYS[3], id, 'PX', ARGV[1])
return id
