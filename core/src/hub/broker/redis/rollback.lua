-- Begins a new epoch where the server has lost events of a topic that others have seen:
-- their numbers must not be given out again.
-- KEYS: the topic's hash. ARGV: the epoch and the number that were seen, a new epoch.
local meta = redis.call('HMGET', KEYS[1], 'e', 'n')
if meta[1] == ARGV[1] and tonumber(meta[2] or '0') < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'e', ARGV[3], 'n', '0')
  return ARGV[3]
end
return meta[1]
