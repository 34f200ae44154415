"""What Redis does for the quota, in Lua: each script is one step to all workers, and all its keys are of one account.

A lane is one model of an account. It has slots, a pace, and a line for each class of queues.

* A slot is a member of a sorted set, by the moment at which it comes free unless its process renews it.
* The pace is the moment of the next start. Who gets a slot is given the moment at which to start; it lies less than
  AHEAD in the future, so that nobody is given what a more urgent one could still have.
* Who finds no slot stands in a line. Whoever comes by, to ask, to give back or to look, serves the lines: the message
  of Redis' own (PUBLISH) tells a waiting process, and how many heard it tells whether there still is one.
* Between classes, and within a class between tenants, turns are by weighted fair queueing: each has a virtual clock,
  which a turn moves on by one part of its weight, and the earliest is next. A place in a line is such a moment, so that
  a job can leave its line and come back to the same place.
* When the next turn is only a matter of time, one process of all is on duty to look again at that moment.

Moments are microseconds of Redis' own clock.
"""

from typing import Final

from config.queues import CLASSES, WEIGHTS
from worker.script import Script

MAIL: Final = "stenopool:quota:mail:"
"""Beginning of the channel on which a process hears that its jobs have got slots."""

HELD: Final = 4_000_000
"""A slot whose process gives no sign for so long is free."""

AHEAD: Final = 100_000
"""How long before its moment a start is given away: time to be told, and to borrow a recogniser."""

SILENCE: Final = 2_000_000
"""If nobody at all came by for so long, Redis was away: then no slot has run out, for nobody could renew it."""

OVERDUE: Final = 250_000
"""After this a duty is taken over."""

CALM: Final = 5_000_000
"""In this time half of a slow-down wears off."""

PAUSE: Final = 1_000_000
"""The first pause after a refusal, at least: the service counts starts in a window of a second. It doubles with the
slow-down."""

SLOWEST: Final = 32
"""Most times that the pace is slower than what is allowed."""

SUSPICIOUS: Final = 3
"""So many failed opens in a row, with no success of anybody's in between, are an outage."""

WELL: Final = 5_000_000
"""So long after a success of anybody's it is not the service that is out, but whoever cannot connect to it."""

PROBE: Final = 15_000_000
"""How long a probe of an outage may take."""

PROBE_FIRST: Final = 500_000
PROBE_MAX: Final = 5_000_000
"""Time between two probes. One of all workers probes, so this may be short however many there are."""

LEAST: Final = 40_000
"""Least time between two looks of who is on duty. Less than AHEAD, so that no start is late for it."""

FORGOTTEN: Final = 60_000_000
"""So long after an outage, another one is a new one."""

WINDOW: Final = 10_000_000
"""In which turns are counted, to say how fast a line moves."""

MISSED: Final = -1_000_000
"""The start of who has a slot and did not hear of its moment: he takes another turn."""

MANY: Final = 1000
"""Tenants of a line whose last places are remembered also when it is empty, for those that come back to theirs."""

KEPT: Final = 86_400
"""Seconds after which what nobody touches is forgotten."""

_CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function read(key, ...)
    local found, given = {}, redis.call('HMGET', key, ...)
    for i, name in ipairs({...}) do found[name] = tonumber(given[i]) or 0 end
    return found
end
"""

_SLOWER = f"""
local function slowness(of)
    return of.slow > 1 and 1 + (of.slow - 1) * 0.5 ^ ((now - of.slow_at) / {CALM}) or 1
end
local function slow_down(key, of, asked, chance)
    if now >= of.hold then
        of.slow, of.slow_at = math.min(2 * slowness(of), {SLOWEST}), now
        of.hold = now + {PAUSE} * of.slow / 2 * (1 + chance / 2)
    end
    of.hold = math.floor(math.max(of.hold, now + asked))
    redis.call('HSET', key, 'slow', of.slow, 'slow_at', of.slow_at, 'hold', of.hold)
end
"""
"""A refusal slows all down: once for all that are refused together, twice as much as before, less as time passes."""

_WELL = f"""
local function all_is_well(account)
    redis.call('HSET', account, 'failures', 0, 'is_out', 0, 'is_probing', 0, 'well_at', now)
    redis.call('EXPIRE', account, {KEPT})
end
"""
"""The service was there for somebody: there is no outage."""

_SILENCE = f"""
local function revive(slots, seen)
    if now - seen <= {SILENCE} then return end
    for _, member in ipairs(redis.call('ZRANGE', slots, 0, -1)) do redis.call('ZADD', slots, now + {HELD}, member) end
end
"""
"""Whoever comes by first after a silence, also a sign of life, sees to it that no slot has run out in it."""

_LANE = (
    _CLOCK
    + _SLOWER
    + _SILENCE
    + f"""
local LANE, SLOTS, FLOWS, ACCOUNT = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local streams, gap = tonumber(ARGV[1]), tonumber(ARGV[2])
local weights = {{{", ".join(str(WEIGHTS[name]) for name in CLASSES)}}}
local lane = read(LANE, 'seen', 'next', 'tick', 'virtual', 'hold', 'slow', 'slow_at', 'since', 'turns', 'before',
    'shift', 'class1', 'class2', 'class3', 'served1', 'served2', 'served3')
local account = read(ACCOUNT, 'is_out', 'probe')
revive(SLOTS, lane.seen)
redis.call('ZREMRANGEBYSCORE', SLOTS, '-inf', now)
local taken = redis.call('ZCARD', SLOTS)

local function line(class) return KEYS[4 + class] end
local waiting = {{}}
for class = 1, 3 do waiting[class] = redis.call('ZCARD', line(class)) end

local function stand(class, tenant, weight, member, place)
    if redis.call('ZSCORE', line(class), member) then return end
    local flow = class .. tenant
    local last = math.max(lane['served' .. class], tonumber(redis.call('HGET', FLOWS, flow)) or 0) + 1 / weight
    if place == 0 then
        place = last
        redis.call('HSET', FLOWS, flow, place)
        redis.call('EXPIRE', FLOWS, {KEPT})
    end
    place = math.min(place, last) -- one that was kept while Redis lost its data is not behind a new one
    waiting[class] = waiting[class] + redis.call('ZADD', line(class), place, member)
    redis.call('EXPIRE', line(class), {KEPT})
end

local function first()
    local best, least
    for class = 1, 3 do
        local moment = math.max(lane['class' .. class], lane.virtual)
        if waiting[class] > 0 and (not best or moment < least) then best, least = class, moment end
    end
    return best, least
end

local function next_start() return math.max(now, lane.next, lane.hold) end

local function too_early()
    if account.is_out == 1 and now < account.probe then return math.min(account.probe - now, 1000000) end
    return next_start() - {AHEAD} - now
end

local function wait()
    local soonest = too_early()
    if streams > 0 and taken >= streams then
        soonest = math.max(soonest, redis.call('ZRANGE', SLOTS, 0, 0, 'WITHSCORES')[2] - now + 1)
    end
    return soonest
end

local function start()
    local at = next_start()
    lane.next = math.floor(at + gap * slowness(lane))
    return at - now
end

local function count()
    if now - lane.since >= {WINDOW} then
        lane.before = now - lane.since < 2 * {WINDOW} and lane.turns or 0
        lane.since, lane.turns = now, 0
    end
    lane.turns = lane.turns + 1
end

local function give(member)
    if account.is_out == 1 then -- a job may be the probe: where all recognisers stand by, nobody opens any
        account.probe = now + {PROBE}
        redis.call('HSET', ACCOUNT, 'probe', account.probe)
    end
    taken = taken + redis.call('ZADD', SLOTS, now + {HELD}, member)
    count()
    return start()
end

local function serve(asker)
    local given
    local class, moment = first()
    while class and wait() <= 0 do
        local member, place = unpack(redis.call('ZPOPMIN', line(class)))
        waiting[class] = waiting[class] - 1
        local mailbox, ticket = string.match(member, '^([^.]*)%.(.*)$')
        local mail = string.format('%s %.0f %.0f', ticket, next_start() - now, lane.shift)
        if member == asker or redis.call('PUBLISH', '{MAIL}' .. mailbox, mail) > 0 then
            local delay = give(member)
            if member == asker then given = delay end
            lane.virtual = moment
            lane['class' .. class] = moment + 1 / weights[class]
            lane['served' .. class] = math.max(lane['served' .. class], place)
        end
        class, moment = first()
    end
    if not class and redis.call('HLEN', FLOWS) > {MANY} then redis.call('DEL', FLOWS) end
    return given
end

local function leave()
    local is_mine, due = false, 0
    if first() then
        due = now + math.max(wait(), {LEAST})
        is_mine = lane.tick < now - {OVERDUE} or due < lane.tick
        if not is_mine then due = lane.tick end
    end
    redis.call('HSET', LANE, 'seen', now, 'next', lane.next, 'tick', due, 'virtual', lane.virtual,
        'since', lane.since, 'turns', lane.turns, 'before', lane.before,
        'class1', lane.class1, 'class2', lane.class2, 'class3', lane.class3,
        'served1', lane.served1, 'served2', lane.served2, 'served3', lane.served3)
    redis.call('EXPIRE', LANE, {KEPT})
    redis.call('EXPIRE', SLOTS, {KEPT})
    return is_mine and math.floor(due - now) or -1
end
"""
)
"""KEYS: the lane's hash, its slots, its flows, the account's hash, a line for each class. ARGV: streams at once, 0 for
no limit; time between two starts."""

ASK = Script(
    _LANE
    + f"local MISSED = {MISSED}"
    + """
local member, class, tenant = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local weight, place, mode = tonumber(ARGV[6]), ARGV[7], ARGV[8]
local given
if redis.call('ZSCORE', SLOTS, member) then
    given = MISSED
elseif mode == 'wait' then
    stand(class, tenant, weight, member, tonumber(place) or 0)
elseif not first() and wait() <= 0 then
    given = give(member)
end
given = serve(member) or given
redis.call('HSET', LANE, 'streams', streams, 'gap', gap)
return {given and 1 or 0, given or 0, lane.shift, leave(), redis.call('ZSCORE', line(class), member) or place}
"""
)
"""Asks for a slot. ARGV: who (mailbox.ticket), the class, the tenant, the tenant's weight, the place kept from before,
and `wait` or `try`: whether to stand in line. Answers: given or not, the time until the start, how far all starts were
put off by then, the time until this process is to look again (-1: another one does), and the place in line."""

GIVE_BACK = Script(
    _LANE
    + _WELL
    + """
local member, linger, is_well = ARGV[3], tonumber(ARGV[4]), ARGV[5]
for class = 1, 3 do
    if waiting[class] > 0 then waiting[class] = waiting[class] - redis.call('ZREM', line(class), member) end
end
if linger == 0 then
    taken = taken - redis.call('ZREM', SLOTS, member)
else
    redis.call('ZADD', SLOTS, 'XX', now + linger, member)
end
if is_well == '1' then
    all_is_well(ACCOUNT)
    account.is_out = 0
end
serve('')
return leave()
"""
)
"""Gives a slot back, or leaves the line. ARGV: who; the time after which the slot is free: the service may not have
noticed yet; whether a stream went well, which ends an outage. Answers the time until this process is to look again."""

LOOK = Script(_LANE + f"if lane.tick <= now + {LEAST} then lane.tick = 0 end serve('') return leave()")
"""Serves the lines: of who is on duty. Answers the time until he is to look again; -1 too if another one has taken the
duty over since, whose moment is still to come."""

TURN = Script(
    _LANE
    + """
local early = too_early()
local given = early <= 0 and start()
redis.call('HSET', LANE, 'seen', now, 'next', lane.next)
return {given and 1 or 0, math.floor(given or early), lane.shift}
"""
)
"""Another start for who has a slot: he missed his, or has to begin again. Answers: given or not, and the time until the
start, or until it makes sense to ask again; and how far all starts were put off by then."""

PUT_OFF = Script(
    _LANE
    + """
local more = math.min(tonumber(ARGV[3]) - lane.shift, 0) + tonumber(ARGV[4])
if more > 0 then
    redis.call('HSET', LANE, 'seen', now, 'next', lane.next + more, 'shift', lane.shift + more)
end
"""
)
"""A start came late to the service, and what follows must not come too close: all are put off by as much, once for all
that were late together. ARGV: how far starts were put off when this one was given; how late it came."""

REFUSED = Script(
    _LANE
    + """
redis.call('HINCRBY', LANE, 'refused', 1)
slow_down(LANE, lane, tonumber(ARGV[3]), tonumber(ARGV[4]))
"""
)
"""The service refused a start. ARGV: for how long it asked to be left alone; a random number from 0 to 1."""

RENEW = Script(
    _CLOCK
    + _SILENCE
    + f"""
local late, position = {{}}, 1
for i = 1, #KEYS, 2 do
    redis.call('EXPIRE', KEYS[i], {KEPT}) -- first, because a Redis that is full takes it, and then the rest
    redis.call('EXPIRE', KEYS[i + 1], {KEPT})
    local lane = read(KEYS[i], 'tick', 'seen')
    revive(KEYS[i + 1], lane.seen)
    redis.call('HSET', KEYS[i], 'seen', now)
    if lane.tick > 0 and lane.tick < now - {OVERDUE} then late[#late + 1] = (i + 1) / 2 end
    for _ = 1, ARGV[position] do
        position = position + 1
        redis.call('ZADD', KEYS[i + 1], now + {HELD}, ARGV[position])
    end
    position = position + 1
end
return late
"""
)
"""A process's sign of life. KEYS: the hash and the slots of each lane. ARGV, for each: how many slots it has, and
which. Answers the numbers of the lanes at which nobody has looked although it was due."""

OPEN = Script(
    _CLOCK
    + _SLOWER
    + f"""
local gap, ahead = tonumber(ARGV[1]), tonumber(ARGV[2])
local account = read(KEYS[1], 'is_out', 'probe', 'next', 'hold', 'slow', 'slow_at')
if account.is_out == 1 then
    if now < account.probe then return {{0, math.min(account.probe - now, 1000000)}} end
    redis.call('HSET', KEYS[1], 'probe', now + {PROBE}, 'is_probing', 1)
    return {{1, 0}}
end
local at = math.max(now, account.next, account.hold)
if at - now > ahead then return {{0, at - now - ahead}} end
redis.call('HSET', KEYS[1], 'next', math.floor(at + gap * slowness(account)), 'gap', gap)
redis.call('EXPIRE', KEYS[1], {KEPT})
return {{1, at - now}}
"""
)
"""Asks to open a connection. KEYS: the account's hash. ARGV: time between two opens; how far ahead one may be given,
the more the more urgent. Answers: allowed or not, and how long to wait before opening, or before asking again."""

OPENED = Script(_CLOCK + _WELL + "all_is_well(KEYS[1])")
"""A connection was opened. KEYS: the account's hash."""

OPEN_FAILED = Script(
    _CLOCK
    + _SLOWER
    + f"""
local asked, chance, is_refusal = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local account = read(KEYS[1], 'is_out', 'is_probing', 'level', 'probe', 'hold', 'slow', 'slow_at', 'failures',
    'failed_at', 'well_at')
local failures = now - account.failed_at > {FORGOTTEN} and 1 or account.failures + 1
redis.call('HSET', KEYS[1], 'failures', failures, 'failed_at', now)
if is_refusal == '1' then slow_down(KEYS[1], account, asked, chance) end
if account.is_out == 0 and failures >= {SUSPICIOUS} and now - account.well_at > {WELL} then
    if now - account.probe > {FORGOTTEN} then account.level = 0 end
    redis.call('HSET', KEYS[1], 'is_out', 1, 'out_since', now)
    account.is_probing = 1
end
if account.is_probing == 1 then
    local level = math.min(math.max(2 * account.level, {PROBE_FIRST}), {PROBE_MAX})
    redis.call('HSET', KEYS[1], 'level', level, 'is_probing', 0,
        'probe', math.floor(now + math.max(asked, level * (0.5 + chance / 2))))
end
redis.call('EXPIRE', KEYS[1], {KEPT})
"""
)
"""An open failed. KEYS: the account's hash. ARGV: for how long the service asked to be left alone; a random number from
0 to 1; 1 if it was the service that refused, and not the network."""
