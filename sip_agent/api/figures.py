"""`/metrics`: what was counted of finished calls, and how things are at this moment."""

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from sip_agent.api.parts import PARTS, ApiParts
from sip_agent.config import agent_version


async def show_metrics(request: web.Request) -> web.Response:
    """Answer with all metrics, in the format that the client asks for."""
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    page = encode(request.app[PARTS].metrics.registry)
    return web.Response(body=page, headers={"Content-Type": content_type})


class LiveFigures(Collector):
    """What is looked up when Prometheus asks."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Yield every figure of this moment."""
        parts = self._parts
        engine = parts.engine
        yield InfoMetricFamily("sip_agent", "The agent.", {"version": agent_version()})
        yield InfoMetricFamily("sip_agent_engine", "The SIP engine.", {"name": engine.name, "version": engine.version})
        yield GaugeMetricFamily("sip_agent_active_calls", "Calls that go on.", len(parts.flow.active))
        yield GaugeMetricFamily("sip_agent_max_calls", "Calls that may go on at once.", parts.max_calls)
        yield GaugeMetricFamily("sip_agent_draining", "1 while the agent shuts down.", int(parts.flow.draining))
        yield from self._store()
        yield from self._media_clock()
        yield from self._invite_gate()
        registered = GaugeMetricFamily(
            "sip_agent_account_registered", "1 while the account is registered.", labels=["account"]
        )
        for state in parts.endpoint.account_states:
            registered.add_metric([state.name], int(state.registered))
        yield registered

    def _store(self) -> Iterator[Metric]:
        store = self._parts.store
        yield GaugeMetricFamily("sip_agent_store_pending", "Call records that wait to be written.", store.pending)
        yield CounterMetricFamily(
            "sip_agent_store_failed_writes", "Transactions that failed and were tried again.", store.failed_writes
        )
        yield CounterMetricFamily("sip_agent_store_dropped", "Call records that were not kept.", store.dropped)

    def _media_clock(self) -> Iterator[Metric]:
        clock = self._parts.endpoint.media_clock
        if clock is not None:
            yield CounterMetricFamily("sip_agent_media_clock_ticks", "Ticks of 20 ms.", clock.ticks)
            yield CounterMetricFamily(
                "sip_agent_media_clock_late_ticks", "Ticks that began over 10 ms late.", clock.late_ticks
            )
            yield GaugeMetricFamily(
                "sip_agent_media_clock_max_lag_seconds", "The longest such delay.", clock.max_lag_us / 1e6
            )

    def _invite_gate(self) -> Iterator[Metric]:
        counters = dict(self._parts.endpoint.gate_counters)
        if counters:
            held = counters.pop("currently_held", 0)
            yield GaugeMetricFamily("sip_agent_invite_gate_held", "INVITEs that wait for a decision.", held)
            events = CounterMetricFamily(
                "sip_agent_invite_gate_events", "What the invite gate did with requests.", labels=["event"]
            )
            for name, count in counters.items():
                events.add_metric([name], count)
            yield events
