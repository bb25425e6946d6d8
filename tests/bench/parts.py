"""The benchmarks: each starts agents of its own, measures, and yields its figures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sip_agent.store import CallQuery, reading
from tests.bench.echo_probe import measure_delays
from tests.bench.figures import Figure, percentile
from tests.bench.interruptions import flush_times_ms, stop_times_ms
from tests.bench.measuring import measure_turns
from tests.bench.processes import (
    CALLS_PER_S,
    SETTLE_S,
    Target,
    cpu_ms_per_call_second,
    running_agent,
    running_echo_bot,
    running_floor,
    setting_up,
    talking,
)
from tests.calls.agent_process import STORE_URL, AgentProcess, eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How long and how often is measured, and where the files go."""

    folder: Path
    window_s: float
    busy_s: float
    markers: int
    set_up_calls: int
    call_counts: tuple[int, ...]
    with_16_khz: bool


Part = Callable[[Scale], Iterator[Figure]]

ECHO_PROBES = 8
"""Calls that measure at once: each has a phase of its own against the agent's clock."""

SET_UPS_PER_S = 105
"""A little more than the bound asks for, so that the rate is the agent's and not the caller's."""


def cpu(scale: Scale) -> Iterator[Figure]:
    """Take the processor time of echo through a Python handler, recorded, beside that of the engine alone."""
    for calls in scale.call_counts:
        costs = _agent_cpu_ms(scale, calls, 8000)
        floor = _floor_cpu_ms(scale, calls, 8000)
        name = f"CPU per call-second, {calls} calls, 8 kHz"
        yield Figure(name=name, value=costs, unit="ms", at_most=1.0)
        yield Figure(name=f"{name}: the engine alone", value=floor, unit="ms")
        yield Figure(name=f"{name}: agent / engine", value=costs / floor, unit="times")
    if scale.with_16_khz:
        yield Figure(name="CPU per call-second, 100 calls, 16 kHz", value=_agent_cpu_ms(scale, 100, 16_000), unit="ms")


def underruns(scale: Scale) -> Iterator[Figure]:
    """Count gaps in the agent's sound while another thread of its process is busy 30 % of the time."""
    calls, folder = 100, scale.folder / "underruns"
    handler = "tests.bench.handlers:EchoBesideBusyThread"
    with (
        running_agent(folder, calls=calls, handler=handler) as (agent, target),
        talking(folder / "callers", target, calls=calls, seconds=scale.busy_s) as callers,
    ):
        callers.wait(scale.busy_s + 30)
        records = _finished(agent, calls)
    frames = sum(record["rtp"]["tx"]["packets"] for record in records)
    yield Figure(name="underruns, a thread busy 30 %", value=_sum(records, "underruns"), unit="", at_most=0)
    yield Figure(name="late frames, a thread busy 30 %", value=_sum(records, "late_frames"), unit="")
    yield Figure(name="frames sent meanwhile", value=frames, unit="")


def round_trip(scale: Scale) -> Iterator[Figure]:
    """Time sound to the agent and back."""
    others, folder = 50, scale.folder / "round_trip"
    with running_agent(folder, calls=others + ECHO_PROBES) as (agent, target):
        yield from _delays("echo round trip", agent, scale.markers)
        measuring_s = scale.markers / ECHO_PROBES * 0.55 + 3
        with talking(folder / "callers", target, calls=others, seconds=measuring_s):
            yield from _delays(f"echo round trip, {others} other calls", agent, scale.markers)


def set_up(scale: Scale) -> Iterator[Figure]:
    """Set up calls with digest that end at once: how fast, how many lost, what each costs."""
    calls, folder = scale.set_up_calls, scale.folder / "set_up"
    auth = {"users": {"bench": "bench"}, "algorithms": ["MD5"]}
    with running_agent(folder, calls=500, auth=auth) as (agent, target):
        before_s = target.cpu_s()
        with setting_up(folder / "callers", target, calls=calls, per_second=SET_UPS_PER_S) as callers:
            callers.wait(calls / SET_UPS_PER_S + 40)
            response_ms = callers.response_ms()
            records = _finished(agent, calls)
        cpu_ms = 1000 * (target.cpu_s() - before_s) / calls
    answered = sum(record["outcome"] == "answered" for record in records)
    times = sorted(datetime.fromisoformat(record["answered_at"]) for record in records if record["answered_at"])
    rate = (len(times) - 1) / (times[-1] - times[0]).total_seconds()
    yield Figure(name="set-ups with digest per second", value=rate, unit="/s", at_least=100)
    yield Figure(name=f"calls lost of {calls}", value=calls - answered, unit="", at_most=0)
    yield Figure(name="INVITE to 200, median", value=percentile(response_ms, 50), unit="ms")
    yield Figure(name="INVITE to 200, p95", value=percentile(response_ms, 95), unit="ms")
    yield Figure(name="CPU per set-up", value=cpu_ms, unit="ms")


def memory(scale: Scale) -> Iterator[Figure]:
    """Take the resident memory with 200 recorded calls, and what is left of it afterwards."""
    calls, folder = 200, scale.folder / "memory"
    with running_agent(folder, calls=calls) as (agent, target):
        with talking(folder / "warm-up", target, calls=10, seconds=0) as callers:
            callers.wait(30)
        _finished(agent, 10)
        idle_kb = agent.rss_kb()
        peaks_kb, rests_kb = [], []
        for number in (1, 2):
            with talking(folder / f"callers-{number}", target, calls=calls, seconds=2) as callers:
                peaks_kb.append(agent.rss_kb())
                callers.wait(30)
            _finished(agent, 10 + number * calls)
            rests_kb.append(agent.rss_kb())
    yield Figure(
        name="memory per call, 200 calls", value=(peaks_kb[0] - idle_kb) / calls / 1000, unit="MB", at_most=0.3
    )
    yield Figure(name="memory without calls", value=idle_kb / 1000, unit="MB")
    yield Figure(name="memory after 200 calls", value=rests_kb[0] / 1000, unit="MB")
    yield Figure(name="memory, second 200 calls: peak growth", value=(peaks_kb[1] - peaks_kb[0]) / 1000, unit="MB")
    yield Figure(name="memory, second 200 calls: growth left", value=(rests_kb[1] - rests_kb[0]) / 1000, unit="MB")


def bridge(scale: Scale) -> Iterator[Figure]:
    """Bridge 50 calls to an echoing WebSocket bot in Twilio's dialect: processor time, gaps, added delay."""
    calls, folder = 50, scale.folder / "bridge"
    with running_echo_bot(folder) as url:
        for sample_rate_hz in (8000, 16_000) if scale.with_16_khz else (8000,):
            routes = [
                {"match": {"user": "echo"}, "handler": "echo"},
                {"match": {}, "handler": "websocket", "options": {"url": url, "dialect": "twilio"}},
            ]
            with running_agent(
                folder / str(sample_rate_hz), calls=calls + ECHO_PROBES, sample_rate_hz=sample_rate_hz, routes=routes
            ) as (agent, target):
                at_most = 5.0 if sample_rate_hz == 8000 else None
                yield from _bridge(
                    scale, agent, target, calls=calls, name=f"{sample_rate_hz // 1000} kHz", at_most=at_most
                )


def hearing(scale: Scale) -> Iterator[Figure]:
    """Take the processor time of listening to 50 calls, whose callers speak half of the time, or all of it.

    It is the difference between two agents that run at the same time, one of which listens: the machine itself is
    never twice equally fast.
    """
    calls = 50
    for sample_rate_hz in (8000, 16_000) if scale.with_16_khz else (8000,):
        name = f"voice activity, {calls} calls, {sample_rate_hz // 1000} kHz: CPU per call-second"
        half = _listening_cpu_ms(scale, calls, sample_rate_hz, silence_s=2.0)
        yield Figure(name=name, value=half, unit="ms", at_most=1.0)
        full = _listening_cpu_ms(scale, calls, sample_rate_hz, silence_s=0.0)
        yield Figure(name=f"{name}, callers who never stop", value=full, unit="ms")


def barge_in(scale: Scale) -> Iterator[Figure]:
    """Stop what the agent says beside 50 calls that are listened to: how long it is still heard."""
    calls, folder = 50, scale.folder / "barge-in"
    routes = [
        {"match": {"user": "stop"}, "handler": "tests.bench.handlers:StopOften"},
        {"match": {"user": "give_way"}, "handler": "tests.bench.handlers:GiveWay"},
        {"match": {}, "handler": "tests.bench.handlers:Listen"},
    ]
    with (
        running_agent(folder, calls=calls + 2, routes=routes) as (agent, target),
        talking(folder / "callers", target, calls=calls, seconds=75),
    ):
        flushes_ms = flush_times_ms(agent)
        stops_ms = stop_times_ms(agent)
    yield Figure(name="barge-in, stop to last frame sent, median", value=percentile(flushes_ms, 50), unit="ms")
    name = f"barge-in, stop to last frame sent, longest of {len(flushes_ms)}"
    yield Figure(name=name, value=max(flushes_ms), unit="ms", at_most=40)
    yield Figure(name="barge-in, caller's first sound to silence, median", value=percentile(stops_ms, 50), unit="ms")
    yield Figure(name=f"barge-in, the same, longest of {len(stops_ms)}", value=max(stops_ms), unit="ms")


def turns(scale: Scale) -> Iterator[Figure]:
    """Time the turns and metrics of a call of five minutes, and how late the event loop gets meanwhile."""
    yield from measure_turns(scale.folder / "turns")


PARTS: dict[str, Part] = {
    "cpu": cpu,
    "underruns": underruns,
    "round-trip": round_trip,
    "set-up": set_up,
    "memory": memory,
    "hearing": hearing,
    "barge-in": barge_in,
    "turns": turns,
    "bridge": bridge,
}


def _bridge(
    scale: Scale, agent: AgentProcess, target: Target, *, calls: int, name: str, at_most: float | None
) -> Iterator[Figure]:
    measuring_s = 2 * (scale.markers / ECHO_PROBES * 0.55 + 3)
    seconds = scale.window_s + measuring_s
    with talking(agent.folder / "callers", target, calls=calls, seconds=seconds) as callers:
        (costs,) = cpu_ms_per_call_second(calls, scale.window_s, target)
        markers = -(-scale.markers // ECHO_PROBES)
        direct = measure_delays(agent, probes=ECHO_PROBES, markers=markers, user="echo")
        bridged = measure_delays(agent, probes=ECHO_PROBES, markers=markers, user="bench")
        callers.wait(seconds + 60)
        records = _finished(agent, calls + 2 * ECHO_PROBES)
    bridges = [record for record in records if record["handler"] == "websocket"]
    # A call that heard little would have cost less.
    assert all(record["rtp"]["rx"]["packets"] > 0.75 * record["talk_ms"] / 20 for record in bridges)
    added_ms = percentile(bridged.delays_ms, 50) - percentile(direct.delays_ms, 50)
    yield Figure(name=f"bridge, {calls} calls, {name}: CPU per call-second", value=costs, unit="ms", at_most=at_most)
    yield Figure(name=f"bridge, {name}: underruns", value=_sum(bridges, "underruns"), unit="", at_most=0)
    yield Figure(name=f"bridge, {name}: late frames", value=_sum(bridges, "late_frames"), unit="")
    yield Figure(name=f"bridge, {name}: added delay, median", value=added_ms, unit="ms", at_most=60)
    yield Figure(name=f"bridge, {name}: round trip, p95", value=percentile(bridged.delays_ms, 95), unit="ms")
    yield Figure(name=f"bridge, {name}: markers lost", value=bridged.lost, unit="")


def _agent_cpu_ms(scale: Scale, calls: int, sample_rate_hz: int) -> float:
    folder = scale.folder / f"cpu-{calls}-{sample_rate_hz}"
    with _talking_agent(scale, folder, calls, sample_rate_hz, "echo") as target:
        (costs,) = cpu_ms_per_call_second(calls, scale.window_s, target)
    return costs


def _listening_cpu_ms(scale: Scale, calls: int, sample_rate_hz: int, *, silence_s: float) -> float:
    folder, listen = scale.folder / f"hearing-{sample_rate_hz}-{silence_s:g}", "tests.bench.handlers:Listen"
    folder.mkdir()
    with (
        _talking_agent(scale, folder / "deaf", calls, sample_rate_hz, "record", silence_s=silence_s) as deaf,
        _talking_agent(scale, folder / "listening", calls, sample_rate_hz, listen, silence_s=silence_s) as listening,
    ):
        costs = cpu_ms_per_call_second(calls, scale.window_s, deaf, listening)
    return costs[1] - costs[0]


@contextmanager
def _talking_agent(
    scale: Scale, folder: Path, calls: int, sample_rate_hz: int, handler: str, *, silence_s: float = 0.0
) -> Iterator[Target]:
    """Run an agent with talking calls, long enough for a measurement; none may have been cut short."""
    # Of two agents that are measured together, the first one's callers wait for the second one's.
    seconds = scale.window_s + 2 * (calls / CALLS_PER_S + SETTLE_S)
    with (
        running_agent(folder, calls=calls, sample_rate_hz=sample_rate_hz, handler=handler) as (agent, target),
        talking(folder / "callers", target, calls=calls, seconds=seconds, silence_s=silence_s) as callers,
    ):
        yield target
        callers.wait(seconds + 30)
        records = _finished(agent, calls)
    # A call that was cut short, or that heard nothing, would have cost less.
    assert min(record["talk_ms"] for record in records) > 1000 * scale.window_s
    assert min(record["rtp"]["rx"]["packets"] for record in records) > 45 * scale.window_s
    assert all(record["recording"]["state"] == "ok" for record in records)


def _floor_cpu_ms(scale: Scale, calls: int, sample_rate_hz: int) -> float:
    folder = scale.folder / f"floor-{calls}-{sample_rate_hz}"
    with (
        running_floor(folder, calls=calls, sample_rate_hz=sample_rate_hz) as target,
        talking(folder / "callers", target, calls=calls, seconds=scale.window_s),
    ):
        (costs,) = cpu_ms_per_call_second(calls, scale.window_s, target)
    return costs


def _delays(name: str, agent: AgentProcess, markers: int) -> Iterator[Figure]:
    measured = measure_delays(agent, probes=ECHO_PROBES, markers=-(-markers // ECHO_PROBES))
    delays_ms = measured.delays_ms
    yield Figure(name=f"{name}, median", value=percentile(delays_ms, 50), unit="ms", at_most=100)
    yield Figure(name=f"{name}, p95", value=percentile(delays_ms, 95), unit="ms")
    yield Figure(name=f"{name}, longest of {len(delays_ms)}", value=max(delays_ms), unit="ms")
    yield Figure(name=f"{name}, markers lost", value=measured.lost, unit="")
    yield Figure(name=f"{name}, probes late, p99", value=percentile(measured.lateness_ms, 99), unit="ms")


def _finished(agent: AgentProcess, calls: int) -> list[dict[str, Any]]:
    """Return the stored records once `calls` of them are complete."""

    def look() -> list[dict[str, Any]] | None:
        with reading(STORE_URL, base_dir=agent.folder) as store:
            finished = [record for record in store.search(CallQuery()) if record["outcome"] is not None]
        return finished if len(finished) >= calls else None

    return eventually(look, f"{calls} finished records", 15)


def _sum(records: list[dict[str, Any]], key: str) -> int:
    return sum(record["audio"][key] for record in records)
