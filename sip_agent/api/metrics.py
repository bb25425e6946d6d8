"""What Prometheus reads of the calls that are over; no label names a call or a caller."""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from sip_agent.record import CallRecord, RtpDirection
from sip_agent.status import Direction, Outcome, SipStatus

DELAY_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
CONVERSATION_BUCKETS_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
TALK_BUCKETS_S = (1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)


class CallMetrics:
    """Counts finished calls: `observe` takes each record once; `registry` is what is shown."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a counter began is of no use to anybody
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._calls = Counter(
            "sip_agent_calls", "INVITEs that were decided and are over.", ["direction", "outcome"], registry=registry
        )
        for direction in Direction:
            for outcome in Outcome:
                self._calls.labels(direction, outcome)
        self._refusals = Counter(
            "sip_agent_refusals", "Calls refused, by the SIP status of the refusal.", ["sip_status"], registry=registry
        )
        self._setup = Histogram(
            "sip_agent_setup_seconds", "From the INVITE to its ACK.", buckets=DELAY_BUCKETS_S, registry=registry
        )
        self._answer_delay = Histogram(
            "sip_agent_answer_delay_seconds", "From the INVITE to the 200.", buckets=DELAY_BUCKETS_S, registry=registry
        )
        self._talk = Histogram(
            "sip_agent_talk_seconds", "From the 200 to the BYE.", buckets=TALK_BUCKETS_S, registry=registry
        )
        self._response_latency = Histogram(
            "sip_agent_response_latency_seconds",
            "From the end of a caller's turn to the agent's reply.",
            buckets=CONVERSATION_BUCKETS_S,
            registry=registry,
        )
        self._stop_time = Histogram(
            "sip_agent_stop_time_seconds",
            "How long the agent went on after the caller interrupted it.",
            buckets=CONVERSATION_BUCKETS_S,
            registry=registry,
        )
        self._underruns = Counter(
            "sip_agent_audio_underruns", "Ticks of 20 ms without a frame to send, amid sound.", registry=registry
        )
        self._late_frames = Counter(
            "sip_agent_audio_late_frames", "Received frames that were taken late or never.", registry=registry
        )
        self._recordings = Counter(
            "sip_agent_recordings", "Recordings of calls that are over.", ["state"], registry=registry
        )
        self._rtp_packets = Counter("sip_agent_rtp_packets", "RTP packets.", ["direction"], registry=registry)
        self._rtp_lost = Counter(
            "sip_agent_rtp_packets_lost",
            "RTP packets lost; tx: as peers reported.",
            ["direction"],
            registry=registry,
        )
        self._rtp_discarded = Counter(
            "sip_agent_rtp_packets_discarded",
            "RTP packets that came too late to be played.",
            ["direction"],
            registry=registry,
        )
        for state in ("ok", "failed"):
            self._recordings.labels(state)
        for path in ("rx", "tx"):
            self._count_rtp(path, RtpDirection())

    def observe(self, record: CallRecord) -> None:
        """Count one call that is over."""
        self._calls.labels(record.direction, record.outcome).inc()
        if record.outcome is Outcome.REJECTED:
            self._refusals.labels(_status_label(record.sip_status)).inc()
        for histogram, milliseconds in (
            (self._setup, record.setup_ms),
            (self._answer_delay, record.answer_delay_ms),
            (self._talk, record.talk_ms),
            *((self._response_latency, turn["response_latency_ms"]) for turn in record.turns),
            *((self._stop_time, turn["stop_time_ms"]) for turn in record.turns),
        ):
            if milliseconds is not None:
                histogram.observe(milliseconds / 1000)
        self._underruns.inc(record.audio.underruns)
        self._late_frames.inc(record.audio.late_frames)
        if record.recording is not None:
            self._recordings.labels(record.recording["state"]).inc()
        if record.rtp is not None:
            self._count_rtp("rx", record.rtp.rx)
            self._count_rtp("tx", record.rtp.tx)

    def _count_rtp(self, direction: str, figures: RtpDirection) -> None:
        # RFC 3550 §6.4.1: duplicates can make the loss negative; a counter only grows.
        self._rtp_packets.labels(direction).inc(max(0, figures.packets))
        self._rtp_lost.labels(direction).inc(max(0, figures.lost))
        self._rtp_discarded.labels(direction).inc(max(0, figures.discarded))


def _status_label(status: int | None) -> str:
    """Return the status as a label; one that no RFC names, as its class."""
    if status is None:
        return "none"
    return str(status) if status in set(SipStatus) else f"{status // 100}xx"
