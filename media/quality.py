"""Listening quality estimated from what RTP counts, by the E-model.

The model rates a connection R = R0 - Ie,eff - Idd, where Ie,eff is what the codec and lost packets do to
the sound (ITU-T G.107 §7.5) and Idd what delay does to a conversation (§7.4), everything else at the
defaults of the Recommendation. Nothing here has heard the sound: it is an estimate, not PESQ or POLQA.

Narrow-band codecs are rated by G.107 (R0 = 93.2, at best MOS 4.41), wide-band codecs by G.107.1 (R0 = 129,
rescaled, at best MOS 4.5). These are two scales (on the wide-band one G.711 would reach 3.7): compare calls
of one band.

Impairments come from ITU-T G.113: Appendix I for narrow-band codecs, Appendix IV for wide-band codecs. The
Recommendation has no packet-loss figure for GSM full rate and G.722, and none at all for iLBC, Speex and
Opus; `CodecImpairment.published` is False where a figure is borrowed from the codec nearest to it.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Band(StrEnum):
    """The scale on which a codec is rated."""

    NARROW = "narrow-band"
    WIDE = "wide-band"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecImpairment:
    """What a codec costs (`ie`), and how well it stands packet loss (`bpl`, higher is better)."""

    band: Band
    ie: float
    bpl: float
    published: bool
    source: str


_G711 = CodecImpairment(
    band=Band.NARROW, ie=0, bpl=25.1, published=True, source="G.113 Table I.4: G.711 with concealment"
)
_CODECS = {
    "PCMU": _G711,
    "PCMA": _G711,
    "GSM": CodecImpairment(
        band=Band.NARROW,
        ie=20,
        bpl=10.0,
        published=False,
        source="G.113 Table I.1: GSM full rate; loss as GSM enhanced full rate, Table I.4",
    ),
    "ILBC": CodecImpairment(
        band=Band.NARROW,
        ie=11,
        bpl=25.1,
        published=False,
        source="not in G.113; quality as G.729A, loss as G.711, whose frames do not need each other either",
    ),
    "SPEEX": CodecImpairment(
        band=Band.NARROW,
        ie=11,
        bpl=19.0,
        published=False,
        source="not in G.113; as G.729A, Table I.4, which is CELP too",
    ),
    "SPEEX/16000": CodecImpairment(
        band=Band.WIDE,
        ie=13,
        bpl=4.3,
        published=False,
        source="not in G.113; as G.722.2 at 12.65 kbit/s, Tables IV.1 and IV.4",
    ),
    "G722": CodecImpairment(
        band=Band.WIDE,
        ie=13,
        bpl=4.9,
        published=False,
        source="G.113 Table IV.1: G.722 at 64 kbit/s; loss as G.722.2 at 23.85 kbit/s, Table IV.4",
    ),
    "OPUS": CodecImpairment(
        band=Band.WIDE,
        ie=8,
        bpl=10.0,
        published=False,
        source="not in G.113; as G.722.2 at 23.85 kbit/s, Table IV.1, with twice its robustness to loss",
    ),
}

_R0 = {Band.NARROW: 93.2, Band.WIDE: 129.0}
# MOS is a function of R up to 100; G.107.1 Annex A brings its longer scale down to that.
_R_SCALE = {Band.NARROW: 1.0, Band.WIDE: 1.29}
_TOTAL_IMPAIRMENT = 95.0
_DELAY_UNNOTICED_MS = 100.0


def codec_impairment(codec: str, clock_rate_hz: int | None = None) -> CodecImpairment | None:
    """Return the figures for a codec by its SDP encoding name, in any case, or None for one not known.

    The RTP clock rate tells the bands of Speex apart, as `clock_rate_hz` or in the name ("speex/16000/1");
    no other codec needs it.
    """
    name, _, parameters = codec.upper().partition("/")
    clock_rate = parameters.partition("/")[0] if clock_rate_hz is None else str(clock_rate_hz)
    if name == "SPEEX" and clock_rate not in {"", "8000"}:
        name = f"SPEEX/{clock_rate}"
    return _CODECS.get(name)


def r_factor(
    impairment: CodecImpairment,
    loss_fraction: float,
    *,
    burst_ratio: float = 1.0,
    one_way_delay_ms: float = 0.0,
) -> float:
    """Return the transmission rating R: at most 93.2 on the narrow-band scale, 129 on the wide-band scale.

    `loss_fraction` (0 to 1) is the share of packets that were not played. `burst_ratio` is the mean length of
    a run of lost packets over that expected of random loss (1.0); G.107 vouches for it up to 2. Delay is from
    mouth to ear; up to 100 ms costs nothing. Raise ValueError for a figure out of its range.
    """
    if not 0 <= loss_fraction <= 1:
        raise ValueError(f"the share of lost packets lies between 0 and 1, not {loss_fraction}")
    if burst_ratio < 1 or one_way_delay_ms < 0:
        raise ValueError("a burst ratio is at least 1, a delay at least 0")
    loss_percent = 100 * loss_fraction
    robustness = loss_percent / burst_ratio + impairment.bpl
    effective = impairment.ie + (_TOTAL_IMPAIRMENT - impairment.ie) * loss_percent / robustness
    return _R0[impairment.band] - effective - _delay_impairment(one_way_delay_ms)


def mos(rating: float, band: Band = Band.NARROW) -> float:
    """Return the mean opinion score, 1.0 to 4.5, for a rating R (G.107 Annex B, G.107.1 Annex A)."""
    scaled = rating / _R_SCALE[band]
    if scaled <= 0:
        return 1.0
    if scaled >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * scaled + scaled * (scaled - 60) * (100 - scaled) * 7e-6)


def missing_fraction(received: int, lost: int, discarded: int = 0) -> float | None:
    """Return the share of packets that were not played, 0 to 1, or None where none was received.

    Of those `received`, `discarded` came too late for the jitter buffer: to a listener they are as missing as
    the `lost` ones (RFC 3611 §4.7.1), and that is all that jitter does. RTP counts duplicates against the
    loss (RFC 3550 §6.4.1), so a negative `lost` is none.
    """
    if received <= 0:
        return None
    lost = max(0, lost)
    return max(0.0, min(1.0, (lost + discarded) / (received + lost)))


def mos_lq_estimated(
    codec: str, loss_fraction: float | None, *, burst_ratio: float = 1.0, clock_rate_hz: int | None = None
) -> float | None:
    """Return the estimated listening quality of one direction, 1.0 to 4.5, to two decimals.

    `loss_fraction` is that of `missing_fraction`. Delay counts against a conversation, not against listening
    (ITU-T P.800.1), so the round trip is no input here: `mos` of an `r_factor` with `one_way_delay_ms` is
    conversational quality.

    None where no packet was received or the codec is not known. Raise ValueError as `r_factor` does.
    """
    impairment = codec_impairment(codec, clock_rate_hz)
    if impairment is None or loss_fraction is None:
        return None
    return round(mos(r_factor(impairment, loss_fraction, burst_ratio=burst_ratio), impairment.band), 2)


def _delay_impairment(one_way_delay_ms: float) -> float:
    """Return Idd for the default sensitivity to delay (G.107 §7.4)."""
    if one_way_delay_ms <= _DELAY_UNNOTICED_MS:
        return 0.0
    octaves = math.log2(one_way_delay_ms / _DELAY_UNNOTICED_MS)
    near = math.pow(1 + octaves**6, 1 / 6)
    far = math.pow(1 + (octaves / 3) ** 6, 1 / 6)
    return 25 * (near - 3 * far + 2)
