"""RTP figures of a call, read from pjsua2 and turned into our record."""

from typing import Any

from media.quality import missing_fraction, mos_lq_estimated
from sip_agent.record import RtpDirection, RtpRecord


class RtpTotals:
    """Figures summed over all streams of a call (a re-INVITE may start a new one)."""

    def __init__(self) -> None:
        self._rx = RtpDirection()
        self._tx = RtpDirection()
        self._rtt_ms: float | None = None

    def add(self, statistics: Any) -> None:
        """Add a stream that has ended (pjsua2 `StreamStat`)."""
        rtcp = statistics.rtcp
        _add(self._rx, rtcp.rxStat)
        _add(self._tx, rtcp.txStat)
        self._rx.discarded += statistics.jbuf.discard
        if rtcp.rttUsec.n:
            self._rtt_ms = round(rtcp.rttUsec.mean / 1000, 3)

    def record(self, codec: str | None) -> RtpRecord:
        """Return the figures so far, with the estimated listening quality of what was received."""
        rx = self._rx
        missing = missing_fraction(rx.packets, rx.lost, rx.discarded)
        mos = None if codec is None else mos_lq_estimated(codec, missing)
        return RtpRecord(rx=rx, tx=self._tx, rtt_ms=self._rtt_ms, mos_lq_estimated=mos)


def _add(total: RtpDirection, stream: Any) -> None:
    total.packets += stream.pkt
    total.lost += stream.loss
    total.discarded += stream.discard
    total.reordered += stream.reorder
    total.duplicated += stream.dup
    if stream.jitterUsec.n:
        total.jitter_ms = round(stream.jitterUsec.mean / 1000, 3)
