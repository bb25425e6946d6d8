"""Who may call, how often, and what becomes of the refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.admission import (
    ALLOW_PRESETS,
    AddressAllowList,
    AdmissionPolicy,
    AnnouncedRuns,
    FailureGuard,
    RefusalLedger,
    RefusalSummary,
    RefusalTreatment,
    TokenBucket,
)
from sip_agent.errors import CallRejected

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RECORDED = RefusalTreatment(record=True, log=True)
COUNTED_FIRST = RefusalTreatment(record=False, log=True)
COUNTED = RefusalTreatment(record=False, log=False)


class TestAddressAllowList:
    """The networks that calls may come from."""

    @pytest.mark.parametrize(
        ("entry", "admitted", "refused"),
        [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("[2001:db8::1]", "[2001:DB8::1]", "2001:db8::2"),
            ("fe80::/10", "fe80::1%eth0", "fec0::1"),
            ("fe80::1%eth0", "fe80::1", "fe80::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
            (" Cekura ", "32.184.152.201", "32.184.152.202"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
        ],
    )
    def test_admits(self, entry: str, admitted: str, refused: str) -> None:
        """An address is admitted if it lies in a listed network, however it is written."""
        allow = AddressAllowList.parse([entry])

        assert allow.admits(admitted)
        assert not allow.admits(refused)

    def test_several(self) -> None:
        """One network that holds the address is enough."""
        allow = AddressAllowList.parse(["127.0.0.0/8", "::1", "cekura"])

        assert [allow.admits(host) for host in ("127.0.0.1", "::1", "32.184.152.201", "8.8.8.8")] == [
            True,
            True,
            True,
            False,
        ]

    def test_empty(self) -> None:
        """An empty list admits everyone."""
        assert AddressAllowList.parse([]).admits("203.0.113.9")

    @pytest.mark.parametrize("host", ["", "localhost", "10.0.0.1.example.com", "10.0.0", "010.0.0.1"])
    def test_not_an_address(self, host: str) -> None:
        """What is no address is not admitted."""
        assert not AddressAllowList.parse(["10.0.0.0/8"]).admits(host)

    @pytest.mark.parametrize("entry", ["", "cekra", "10.0.0.1/8", "10.0.0.0/33", "example.com"])
    def test_bad_entry(self, entry: str) -> None:
        """A bad entry is named, beside what could stand in its place."""
        with pytest.raises(ValueError, match=f"'{entry}' is neither .* preset"):
            AddressAllowList.parse(["127.0.0.1", entry])

    @given(st.text())
    def test_never_raises(self, host: str) -> None:
        """Whatever the text, it is admitted or not."""
        assert AddressAllowList.parse(["127.0.0.1"]).admits(host) in {True, False}

    @pytest.mark.parametrize("preset", ALLOW_PRESETS)
    def test_presets(self, preset: str) -> None:
        """Each preset reads, and says where and when its addresses were found."""
        assert AddressAllowList.parse([preset]).networks
        assert ALLOW_PRESETS[preset].source
        assert ALLOW_PRESETS[preset].checked_on <= NOON.date()


class TestTokenBucket:
    """Rates with a burst."""

    def test_burst_then_rate(self) -> None:
        """A full bucket serves its burst at once, and from then on the rate."""
        bucket = TokenBucket(rate_per_s=2, burst=3)

        assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
        assert bucket.seconds_until_token(100.0) == 0.5
        assert [bucket.take(now) for now in (100.25, 100.5, 100.5)] == [False, True, False]

    def test_fills_to_the_brim_only(self) -> None:
        """A long pause earns no more than the burst."""
        bucket = TokenBucket(rate_per_s=2, burst=3)
        bucket.take(0.0)

        assert [bucket.take(1e6) for _ in range(4)] == [True, True, True, False]

    def test_clock_that_steps_back(self) -> None:
        """Time that runs backwards gives and takes nothing."""
        bucket = TokenBucket(rate_per_s=1, burst=1)

        assert [bucket.take(now) for now in (10.0, 5.0, 10.5, 11.0)] == [True, False, False, True]

    @pytest.mark.parametrize(("rate_per_s", "burst"), [(0, 1), (-1, 1), (1, 0)])
    def test_useless_buckets(self, rate_per_s: float, burst: float) -> None:
        """A bucket that would let nothing through is a mistake."""
        with pytest.raises(ValueError, match="nothing through"):
            TokenBucket(rate_per_s, burst)


class TestAdmissionPolicy:
    """The decision on a new call."""

    policy_allow = AddressAllowList.parse(["127.0.0.0/8"])

    def check(self, policy: AdmissionPolicy, host: str = "127.0.0.1", active_calls: int = 0, now: float = 0.0) -> str:
        """Return what the policy says, and what goes into the response."""
        try:
            policy.check_source(host)
            policy.check_capacity(active_calls)
            policy.check_rate(now)
        except CallRejected as rejection:
            return f"{rejection.status} {rejection.reason} {dict(rejection.headers)}"
        return "admitted"

    def test_source(self) -> None:
        """A source that is not allowed is refused for good, and takes no part of the call rate."""
        policy = AdmissionPolicy(allow=self.policy_allow, max_calls=1, calls_per_second=1)

        assert self.check(policy, host="8.8.8.8") == "403 source not allowed {}"
        assert self.check(policy) == "admitted"

    def test_capacity(self) -> None:
        """With all calls in use a caller is asked to come back later, and takes no part of the call rate."""
        policy = AdmissionPolicy(allow=self.policy_allow, max_calls=2, calls_per_second=1)

        assert self.check(policy, active_calls=2) == "503 at capacity {'Retry-After': '10'}"
        assert self.check(policy, active_calls=1) == "admitted"

    @pytest.mark.parametrize(("rate", "burst", "retry_after"), [(2, 2, "1"), (0.25, 1, "4")])
    def test_rate(self, rate: float, burst: int, retry_after: str) -> None:
        """Calls beyond the rate are asked to come back in whole seconds, when there is room again."""
        policy = AdmissionPolicy(allow=self.policy_allow, max_calls=100, calls_per_second=rate)

        assert ["admitted"] * burst == [self.check(policy) for _ in range(burst)]
        assert f"503 call rate {{'Retry-After': '{retry_after}'}}" == self.check(policy)
        assert self.check(policy, now=float(retry_after)) == "admitted"


class TestRefusalLedger:
    """Records of refused INVITEs."""

    def test_singles_then_summary(self) -> None:
        """The first few of an hour are recorded singly; the rest is one summary, and one log entry."""
        ledger = RefusalLedger(2)
        times = [NOON + timedelta(minutes=minute) for minute in range(5)]

        expected = [RECORDED, RECORDED, COUNTED_FIRST, COUNTED, COUNTED]
        assert expected == [ledger.note("192.0.2.1", at) for at in times]
        assert ledger.summaries_due(NOON + timedelta(minutes=59)) == []
        summary = RefusalSummary(source="192.0.2.1", first_at=times[2], last_at=times[4], count=3)
        assert [summary] == ledger.summaries_due(NOON + timedelta(hours=1))
        assert ledger.summaries_due(NOON + timedelta(hours=1)) == []

    def test_sources_and_hours_apart(self) -> None:
        """Each source has its own allowance, and a new one each hour, in whatever zone the time is given."""
        ledger = RefusalLedger(1)
        tokyo = (NOON + timedelta(minutes=30)).astimezone(timezone(timedelta(hours=9)))

        assert ledger.note("192.0.2.1", NOON) == RECORDED
        assert ledger.note("192.0.2.2", NOON) == RECORDED
        assert ledger.note("192.0.2.1", tokyo) == COUNTED_FIRST
        assert ledger.note("192.0.2.1", NOON + timedelta(hours=1)) == RECORDED

    def test_nothing_to_sum_up(self) -> None:
        """A source whose refusals were all recorded needs no summary."""
        ledger = RefusalLedger(5)
        ledger.note("192.0.2.1", NOON)

        assert ledger.flush() == []

    def test_flush(self) -> None:
        """On shutdown the hour that is not over is summed up too."""
        ledger = RefusalLedger(0)
        ledger.note("192.0.2.1", NOON)

        assert [RefusalSummary(source="192.0.2.1", first_at=NOON, last_at=NOON, count=1)] == ledger.flush()
        assert ledger.flush() == []

    def test_bounded_memory(self) -> None:
        """Sources beyond the limit are counted together, and none is lost."""
        ledger = RefusalLedger(1, max_sources=3)
        treatments = [ledger.note(f"192.0.2.{number}", NOON) for number in range(10)]

        assert treatments == [RECORDED] * 3 + [COUNTED_FIRST] + [COUNTED] * 6
        assert ledger.note("192.0.2.0", NOON) == COUNTED_FIRST
        assert {("other", 7), ("192.0.2.0", 1)} == {(item.source, item.count) for item in ledger.flush()}
        assert ledger.note("192.0.2.9", NOON) == RECORDED


class TestFailureGuard:
    """Sources that guess passwords."""

    def test_flood_and_pause(self) -> None:
        """After the threshold a source is flooding, until it pauses."""
        guard = FailureGuard(threshold=3, refill_per_s=1)
        for _ in range(3):
            assert not guard.is_flooding("192.0.2.1", 100.0)
            guard.failed("192.0.2.1", 100.0)

        assert guard.is_flooding("192.0.2.1", 100.0)
        assert guard.is_flooding("192.0.2.1", 100.9)
        assert not guard.is_flooding("192.0.2.1", 101.0)
        assert not guard.is_flooding("192.0.2.2", 100.0)

    def test_only_the_excess(self) -> None:
        """An attack of any rate is answered at the refill rate, and no debt piles up."""
        guard = FailureGuard(threshold=5, refill_per_s=2)
        answered = 0
        for attempt in range(1000):
            now = attempt / 100
            if not guard.is_flooding("192.0.2.1", now):
                answered += 1
                guard.failed("192.0.2.1", now)
        for _ in range(100):
            guard.failed("192.0.2.1", 10.0)

        assert 5 + 2 * 10 - 2 <= answered <= 5 + 2 * 10
        assert not guard.is_flooding("192.0.2.1", 10.5)

    def test_bounded_memory(self) -> None:
        """The source whose failure is longest ago is forgotten first; a busy one is not."""
        guard = FailureGuard(threshold=1, refill_per_s=0.001, max_sources=3)
        for number in range(1, 10):
            guard.failed("192.0.2.0", 0.0)
            guard.failed(f"192.0.2.{number}", 0.0)

        assert [number for number in range(10) if guard.is_flooding(f"192.0.2.{number}", 0.0)] == [0, 8, 9]
        assert len(guard._buckets) == 3

    @pytest.mark.parametrize(("threshold", "refill_per_s"), [(0, 1), (1, 0)])
    def test_useless_guards(self, threshold: int, refill_per_s: float) -> None:
        """A guard that would shut out everyone is a mistake."""
        with pytest.raises(ValueError, match="lock every source out"):
            FailureGuard(threshold, refill_per_s)


class TestAnnouncedRuns:
    """The only runs that may call, where a platform announces them."""

    def test_announced(self) -> None:
        """A run that was announced may call, more than once; another may not, nor a call of no run."""
        runs = AnnouncedRuns()
        runs.announce(["1", "2"], 0.0)

        for _ in range(2):
            runs.check("1", 10.0)
        for run_id in ("3", "", None, "01"):
            with pytest.raises(CallRejected, match=f"403 the run {run_id} was not announced"):
                runs.check(run_id, 10.0)

    def test_forgotten(self) -> None:
        """An announcement is good for a time; a new one renews it."""
        runs = AnnouncedRuns(ttl_s=60)
        runs.announce(["1", "2"], 0.0)
        runs.announce(["2"], 50.0)

        runs.check("2", 110.0)
        with pytest.raises(CallRejected):
            runs.check("1", 61.0)

    def test_bounded(self) -> None:
        """Where more are announced than are remembered, those announced first go first."""
        runs = AnnouncedRuns(max_runs=2)
        runs.announce(["1", "2", "1", "3"], 0.0)

        runs.check("1", 0.0)
        runs.check("3", 0.0)
        with pytest.raises(CallRejected):
            runs.check("2", 0.0)
