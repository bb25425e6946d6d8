"""Who may call, how often, and how much attention a refused caller gets."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from sip_agent.errors import CallRejected
from sip_agent.status import SipStatus

# A call that has to end first takes a while; a caller that comes back sooner only adds load.
CAPACITY_RETRY_AFTER_S = 10

# The memory that refused callers may take; beyond it they are not told apart.
MAX_SOURCES = 10_000
OTHER_SOURCES = "other"


# Runs that wait for a free line are called late; those of one result are some hundreds.
ANNOUNCED_FOR_S = 6 * 3600.0
MAX_ANNOUNCED_RUNS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowPreset:
    """The published addresses of a platform, with the day they were read and the page they were read from."""

    networks: tuple[str, ...]
    checked_on: date
    source: str


ALLOW_PRESETS: Mapping[str, AllowPreset] = {
    "cekura": AllowPreset(
        networks=("32.184.152.201/32",),
        checked_on=date(2026, 7, 11),
        source="docs.cekura.ai/documentation/advanced/ip-whitelisting",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressAllowList:
    """The networks that calls may come from; an empty list admits everyone."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: Sequence[str]) -> "AddressAllowList":
        """Read CIDR blocks, single addresses and preset names; the ValueError names a bad entry."""
        networks: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            preset = ALLOW_PRESETS.get(entry.strip().lower())
            blocks = (entry,) if preset is None else preset.networks
            networks.extend(_read_network(block) for block in blocks)
        return cls(networks=tuple(dict.fromkeys(networks)))

    def admits(self, host: str) -> bool:
        """Tell whether a call from the address `host` may come in; text that is no address may not."""
        if not self.networks:
            return True
        try:
            address = _read_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def _read_address(host: str) -> IPv4Address | IPv6Address:
    """Read an address with or without brackets and scope id; an IPv4-mapped one is IPv4."""
    address = ip_address(host.strip().strip("[]").partition("%")[0])
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _read_network(entry: str) -> IPv4Network | IPv6Network:
    host, slash, prefix = entry.strip().partition("/")
    try:
        network = ip_network(host.strip("[]").partition("%")[0] + slash + prefix)
    except ValueError as error:
        presets = ", ".join(ALLOW_PRESETS)
        raise ValueError(
            f"{entry!r} is neither an address, nor a CIDR block, nor a preset ({presets}): {error}"
        ) from error
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


class TokenBucket:
    """Admits `burst` events at once and `rate_per_s` on average; `now` is seconds of a monotonic clock."""

    __slots__ = ("_burst", "_level", "_rate_per_s", "_updated_at_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError(f"a bucket of {burst} tokens with {rate_per_s} per second lets nothing through")
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._updated_at_s = -math.inf

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._refill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def seconds_until_token(self, now: float) -> float:
        """Return how long it takes until there is a token: 0 if there is one."""
        self._refill(now)
        return max(0.0, (1 - self._level) / self._rate_per_s)

    def _refill(self, now: float) -> None:
        elapsed_s = max(0.0, now - self._updated_at_s)
        self._level = min(self._burst, self._level + elapsed_s * self._rate_per_s)
        self._updated_at_s = max(now, self._updated_at_s)


class AdmissionPolicy:
    """Decides on a new call before anything is spent on it: by source, calls in progress and call rate."""

    def __init__(self, *, allow: AddressAllowList, max_calls: int, calls_per_second: float) -> None:
        self._allow = allow
        self._max_calls = max_calls
        self._rate = TokenBucket(calls_per_second, max(1.0, calls_per_second))

    def check_source(self, source_host: str) -> None:
        """Raise CallRejected 403 unless calls may come from there."""
        if not self._allow.admits(source_host):
            raise CallRejected(SipStatus.FORBIDDEN, "source not allowed")

    def check_capacity(self, active_calls: int) -> None:
        """Raise CallRejected 503 if there are as many calls as there may be."""
        if active_calls >= self._max_calls:
            raise _unavailable("at capacity", CAPACITY_RETRY_AFTER_S)

    def check_rate(self, now: float) -> None:
        """Count a new call; raise CallRejected 503 if it is one too many. `now` is monotonic, in seconds."""
        if not self._rate.take(now):
            raise _unavailable("call rate", self._rate.seconds_until_token(now))


def _unavailable(reason: str, retry_after_s: float) -> CallRejected:
    seconds = max(1, math.ceil(retry_after_s))
    return CallRejected(SipStatus.SERVICE_UNAVAILABLE, reason, headers=(("Retry-After", str(seconds)),))


class AnnouncedRuns:
    """The runs that a platform announced before it called; `now` is seconds of a monotonic clock.

    A run is forgotten after `ttl_s`, and the longest known ones first where more than `max_runs` are announced.
    """

    def __init__(self, ttl_s: float = ANNOUNCED_FOR_S, max_runs: int = MAX_ANNOUNCED_RUNS) -> None:
        self._ttl_s = ttl_s
        self._max_runs = max_runs
        self._announced_at_s: dict[str, float] = {}

    def announce(self, run_ids: Iterable[str], now: float) -> None:
        """Expect calls of these runs."""
        for run_id in run_ids:
            self._announced_at_s.pop(run_id, None)
            self._announced_at_s[run_id] = now
            if len(self._announced_at_s) > self._max_runs:
                del self._announced_at_s[next(iter(self._announced_at_s))]

    def check(self, run_id: str | None, now: float) -> None:
        """Raise CallRejected 403 unless the run was announced; a call without a run id belongs to none."""
        announced_at_s = None if run_id is None else self._announced_at_s.get(run_id)
        if announced_at_s is None or now - announced_at_s > self._ttl_s:
            raise CallRejected(
                SipStatus.FORBIDDEN, f"the run {run_id} was not announced (cekura.announced_runs_only asks for it)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalTreatment:
    """Whether a refused INVITE gets a call record of its own, and whether it gets a log entry."""

    record: bool
    log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalSummary:
    """The refused INVITEs of one source in one hour that got no record of their own; times are aware."""

    source: str
    first_at: datetime
    last_at: datetime
    count: int


@dataclass(slots=True, kw_only=True)
class _Tally:
    recorded: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    counted: int = 0


class RefusalLedger:
    """Decides which refused INVITEs are recorded singly, and counts the rest per source and clock hour (UTC).

    `now` is aware. Beyond `max_sources` the sources are counted as one, "other".
    """

    def __init__(self, single_records_per_hour: int, max_sources: int = MAX_SOURCES) -> None:
        self._single_records_per_hour = single_records_per_hour
        self._max_sources = max_sources
        self._tallies: dict[tuple[datetime, str], _Tally] = {}

    def note(self, source: str, now: datetime) -> RefusalTreatment:
        """Take note of a refused INVITE; the first one that is only counted is still logged."""
        hour_at = _start_of_hour(now)
        limit = self._single_records_per_hour
        if (hour_at, source) not in self._tallies and len(self._tallies) >= self._max_sources:
            source, limit = OTHER_SOURCES, 0
        tally = self._tallies.setdefault((hour_at, source), _Tally())
        if tally.recorded < limit:
            tally.recorded += 1
            return RefusalTreatment(record=True, log=True)
        tally.first_at = tally.first_at or now
        tally.last_at = now
        tally.counted += 1
        return RefusalTreatment(record=False, log=tally.counted == 1)

    def summaries_due(self, now: datetime) -> list[RefusalSummary]:
        """Hand over the summaries of the hours that are over, and forget them."""
        hour_at = _start_of_hour(now)
        return self._close([key for key in self._tallies if key[0] < hour_at])

    def flush(self) -> list[RefusalSummary]:
        """Hand over every summary, as on shutdown."""
        return self._close(list(self._tallies))

    def _close(self, keys: Sequence[tuple[datetime, str]]) -> list[RefusalSummary]:
        tallies = [(source, self._tallies.pop((hour_at, source))) for hour_at, source in keys]
        return [
            RefusalSummary(source=source, first_at=tally.first_at, last_at=tally.last_at, count=tally.counted)
            for source, tally in tallies
            if tally.first_at is not None and tally.last_at is not None
        ]


def _start_of_hour(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


class FailureGuard:
    """Tells which sources fail to authenticate faster than an honest caller would.

    A source may fail `threshold` times at once and `refill_per_s` times per second on average; what comes in
    excess of that is a flood and need not be answered. A pause of 1 / `refill_per_s` seconds ends it. At most
    `max_sources` are watched: the one whose last failure is longest ago is forgotten first, since holding a
    full table against newcomers would shut out honest callers. `now` is seconds of a monotonic clock.
    """

    def __init__(self, threshold: int, refill_per_s: float, max_sources: int = MAX_SOURCES) -> None:
        if threshold < 1 or refill_per_s <= 0:
            raise ValueError(f"{threshold} failures and {refill_per_s} per second would lock every source out")
        self._threshold = threshold
        self._refill_per_s = refill_per_s
        self._max_sources = max_sources
        self._buckets: dict[str, TokenBucket] = {}

    def failed(self, source: str, now: float) -> None:
        """Take note that a caller from `source` failed to authenticate."""
        bucket = self._buckets.pop(source, None) or TokenBucket(self._refill_per_s, self._threshold)
        bucket.take(now)
        self._buckets[source] = bucket
        if len(self._buckets) > self._max_sources:
            del self._buckets[next(iter(self._buckets))]

    def is_flooding(self, source: str, now: float) -> bool:
        """Tell whether a request from `source` is one too many."""
        bucket = self._buckets.get(source)
        return bucket is not None and bucket.seconds_until_token(now) > 0
