"""`/metrics`."""

from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from sip_agent.config import agent_version
from sip_agent.record import AudioRecord, CallRecord, RtpDirection, RtpRecord
from sip_agent.status import Outcome
from sip_agent.testing import FakeCall
from sip_agent.ua.accounts import AccountState
from tests.api.conftest import Api

NewRecord = Callable[..., CallRecord]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def _samples(api: Api) -> Samples:
    async with api.client.get("/metrics") as response:
        assert 200 == response.status
        page = await response.text()
    families = text_string_to_metric_families(page)
    return {
        (sample.name.removeprefix("sip_agent_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def _value(samples: Samples, name: str, /, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


async def test_calls_by_outcome_and_direction(api: Api, new_record: NewRecord) -> None:
    """Each finished call counts once; what has not happened yet is there as zero."""
    for _ in range(2):
        api.metrics.observe(new_record())
    api.metrics.observe(new_record(outcome=Outcome.CANCELLED, sip_status=487))

    samples = await _samples(api)

    assert 2 == _value(samples, "calls_total", direction="inbound", outcome="answered")
    assert 1 == _value(samples, "calls_total", direction="inbound", outcome="cancelled")
    assert 0 == _value(samples, "calls_total", direction="outbound", outcome="failed")


async def test_refusals_by_status(api: Api, new_record: NewRecord) -> None:
    """Refusals count by status; statuses that no RFC names share one label for each class."""
    for status in (486, 486, 499, 498):
        api.metrics.observe(new_record(outcome=Outcome.REJECTED, sip_status=status))

    samples = await _samples(api)

    assert 2 == _value(samples, "refusals_total", sip_status="486")
    assert 2 == _value(samples, "refusals_total", sip_status="4xx")


async def test_delays_and_talk_time(api: Api, new_record: NewRecord) -> None:
    """Delays and talk time are histograms in seconds; a call that was not answered has none."""
    api.metrics.observe(new_record(setup_ms=30, answer_delay_ms=20, talk_ms=65_000))
    api.metrics.observe(new_record(outcome=Outcome.FAILED))

    samples = await _samples(api)

    assert (1, 0.03) == (_value(samples, "setup_seconds_count"), _value(samples, "setup_seconds_sum"))
    assert (1, 0.02) == (_value(samples, "answer_delay_seconds_count"), _value(samples, "answer_delay_seconds_sum"))
    assert (1, 65) == (_value(samples, "talk_seconds_count"), _value(samples, "talk_seconds_sum"))
    assert (0, 1) == tuple(_value(samples, "talk_seconds_bucket", le=le) for le in ("60.0", "120.0"))


async def test_turns(api: Api, new_record: NewRecord) -> None:
    """Each reply and each interruption of the agent counts in a histogram in seconds; other turns do not."""
    figures = ((None, None), (400, 120), (1900, None))
    turns = [{"response_latency_ms": latency_ms, "stop_time_ms": stop_ms} for latency_ms, stop_ms in figures]
    api.metrics.observe(new_record(turns=turns))

    samples = await _samples(api)

    assert (2, 2.3) == tuple(_value(samples, f"response_latency_seconds_{name}") for name in ("count", "sum"))
    assert (1, 0.12) == tuple(_value(samples, f"stop_time_seconds_{name}") for name in ("count", "sum"))


async def test_sound_and_rtp(api: Api, new_record: NewRecord) -> None:
    """Underruns, late frames, failed recordings and RTP losses add up; a negative loss takes nothing away."""
    lossy = RtpRecord(rx=RtpDirection(packets=100, lost=3, discarded=1), tx=RtpDirection(packets=90, lost=2))
    doubled = RtpRecord(rx=RtpDirection(packets=10, lost=-2))
    failed = {"path": "a.wav", "state": "failed", "error": "disk full"}
    api.metrics.observe(new_record(audio=AudioRecord(late_frames=4, underruns=5), rtp=lossy, recording=failed))
    api.metrics.observe(new_record(rtp=doubled, recording=failed | {"state": "ok"}))

    samples = await _samples(api)

    assert (5, 4) == (_value(samples, "audio_underruns_total"), _value(samples, "audio_late_frames_total"))
    assert (1, 1) == tuple(_value(samples, "recordings_total", state=state) for state in ("ok", "failed"))
    assert 110 == _value(samples, "rtp_packets_total", direction="rx")
    assert 3 == _value(samples, "rtp_packets_lost_total", direction="rx")
    assert 2 == _value(samples, "rtp_packets_lost_total", direction="tx")
    assert 1 == _value(samples, "rtp_packets_discarded_total", direction="rx")


async def test_figures_of_the_moment(api: Api) -> None:
    """Active calls, the store, the media clock, the invite gate and the accounts are as they are right now."""
    call = FakeCall()
    api.flow.active[call.record.call_uuid] = call.call
    api.endpoint.account_states = [AccountState(name="trunk", username="1001", registered=True)]

    samples = await _samples(api)

    assert (1, 2) == (_value(samples, "active_calls"), _value(samples, "max_calls"))
    assert 0 == _value(samples, "draining")
    store = ("store_pending", "store_failed_writes_total", "store_dropped_total")
    assert (0, 0, 0) == tuple(_value(samples, name) for name in store)
    assert 3 == _value(samples, "media_clock_late_ticks_total")
    assert 0.0125 == _value(samples, "media_clock_max_lag_seconds")
    assert 2 == _value(samples, "invite_gate_held")
    assert 4 == _value(samples, "invite_gate_events_total", event="rejected")
    assert 1 == _value(samples, "account_registered", account="trunk")
    assert 1 == _value(samples, "engine_info", name="native", version="2.17")
    assert 1 == _value(samples, "info", version=agent_version())


async def test_the_light_engine_has_fewer_figures(api: Api) -> None:
    """Without a native clock and gate their figures are left out."""
    api.endpoint.media_clock, api.endpoint.gate_counters = None, {}

    names = {name for name, _ in await _samples(api)}

    assert not [name for name in names if name.startswith(("media_clock", "invite_gate"))]


async def test_no_label_names_a_call(api: Api, new_record: NewRecord) -> None:
    """However many calls there were, the page stays as long as it is."""
    fields: dict[str, Any] = {"setup_ms": 1, "talk_ms": 1, "rtp": RtpRecord(), "run_id": "4711"}
    api.metrics.observe(new_record(**fields))
    once = await _samples(api)
    for number in range(50):
        api.metrics.observe(new_record(**(fields | {"run_id": str(number), "from_uri": f"sip:{number}@example.com"})))

    assert once.keys() == (await _samples(api)).keys()


async def test_openmetrics(api: Api) -> None:
    """A client that asks for OpenMetrics gets it."""
    async with api.client.get("/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
        page = await response.text()

    assert "application/openmetrics-text" == response.content_type
    assert page.endswith("# EOF\n")
