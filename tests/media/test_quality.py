"""The E-model, against the numbers of the Recommendations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.quality import Band, codec_impairment, missing_fraction, mos, mos_lq_estimated, r_factor

_CODECS = ["PCMU", "PCMA", "GSM", "iLBC", "speex", "speex/16000", "G722", "opus"]


@pytest.mark.parametrize(
    ("rating", "expected"), [(-5, 1.0), (0, 1.0), (3, 1.0), (50, 2.575), (60, 3.1), (80, 4.024), (100, 4.5)]
)
def test_maps_r_to_mos_as_g107_annex_b(rating: float, expected: float) -> None:
    """The curve passes the points of ITU-T G.107 Annex B, and never falls below 1."""
    assert mos(rating) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(("ie", "expected"), [(0, 4.5), (8, 4.4206), (13, 4.3371), (41, 3.5123)])
def test_maps_wide_band_r_as_g1071_annex_a(ie: float, expected: float) -> None:
    """The wide-band scale of 129 is brought down to that of 100 first."""
    assert mos(129 - ie, Band.WIDE) == pytest.approx(expected, abs=0.0001)


@pytest.mark.parametrize(
    ("loss_fraction", "expected"),
    [(0.0, 4.41), (0.01, 4.33), (0.02, 4.23), (0.05, 3.92), (0.1, 3.41), (1.0, 1.18)],
)
def test_rates_g711_with_concealment(loss_fraction: float, expected: float) -> None:
    """G.711 without loss has 4.41, the best on the narrow-band scale, and falls with loss."""
    assert expected == mos_lq_estimated("PCMU", loss_fraction)
    assert expected == mos_lq_estimated("PCMA", loss_fraction)


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        ("gsm", 3.74),
        ("iLBC", 4.1),
        ("speex", 4.1),
        ("speex/16000/1", 4.34),
        ("G722", 4.34),
        ("opus/48000/2", 4.42),
    ],
)
def test_rates_other_codecs_without_loss(codec: str, expected: float) -> None:
    """Names are those of SDP, in any case, with or without the clock rate."""
    assert expected == mos_lq_estimated(codec, 0.0)


def test_the_clock_rate_tells_the_bands_of_speex() -> None:
    """Speex at 16 kHz is a wide-band codec; at 32 kHz there are no figures."""
    assert mos_lq_estimated("speex", 0.0, clock_rate_hz=16000) == mos_lq_estimated("speex/16000", 0.0)
    assert mos_lq_estimated("speex", 0.0, clock_rate_hz=8000) == mos_lq_estimated("speex", 0.0)
    assert mos_lq_estimated("speex", 0.0, clock_rate_hz=32000) is None


def test_only_figures_of_the_recommendation_count_as_published() -> None:
    """Of our codecs only G.711 has both figures in G.113; the others say what they borrowed."""
    figures = {name: codec_impairment(name) for name in _CODECS}
    sources = [found.source for found in figures.values() if found]

    assert [name for name, found in figures.items() if found and found.published] == ["PCMU", "PCMA"]
    assert len(sources) == len(_CODECS)
    assert all("G.113" in source for source in sources)


def test_bursts_are_heard_more_than_scattered_loss() -> None:
    """G.711 at 2 %: 7.0 points of R lost at random, 7.3 in bursts of twice the length."""
    g711 = codec_impairment("PCMU")
    assert g711 is not None

    assert 93.2 - r_factor(g711, 0.02) == pytest.approx(7.01, abs=0.01)
    assert 93.2 - r_factor(g711, 0.02, burst_ratio=2) == pytest.approx(7.28, abs=0.01)


@pytest.mark.parametrize(("delay_ms", "expected"), [(0, 0), (100, 0), (150, 0.2), (200, 3.0), (400, 24.1)])
def test_delay_costs_what_g107_says(delay_ms: float, expected: float) -> None:
    """Up to 100 ms delay is not noticed; then the conversation suffers (ITU-T G.107 §7.4, Idd)."""
    g711 = codec_impairment("PCMU")
    assert g711 is not None

    assert 93.2 - r_factor(g711, 0.0, one_way_delay_ms=delay_ms) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("received", "lost", "discarded", "expected"),
    [
        (100, 0, 0, 0.0),
        (90, 10, 0, 0.1),
        (100, 0, 10, 0.1),
        (90, 10, 10, 0.2),
        (100, -3, 0, 0.0),
        (1, 0, 9, 1.0),
    ],
)
def test_late_packets_count_as_lost(received: int, lost: int, discarded: int, expected: float) -> None:
    """What came too late is as missing as what never came; duplicates do not make up for it."""
    assert expected == missing_fraction(received, lost, discarded)


def test_no_packets_no_rating() -> None:
    """Where nothing was received, or the codec is unknown, there is nothing to estimate."""
    assert missing_fraction(0, 50) is None
    assert mos_lq_estimated("PCMU", missing_fraction(0, 0)) is None
    assert mos_lq_estimated("L16", 0.0) is None
    assert mos_lq_estimated("", 0.0) is None


@given(st.sampled_from(_CODECS), st.floats(0, 1), st.floats(0, 1), st.floats(1, 5))
def test_more_loss_never_sounds_better(codec: str, first: float, second: float, burst_ratio: float) -> None:
    """The estimate stays between 1.0 and 4.5 and falls with loss."""
    better = mos_lq_estimated(codec, min(first, second), burst_ratio=burst_ratio)
    worse = mos_lq_estimated(codec, max(first, second), burst_ratio=burst_ratio)

    assert better is not None
    assert worse is not None
    assert 1.0 <= worse <= better <= 4.5


@pytest.mark.parametrize("loss_fraction", [-0.1, 1.1, float("nan")])
def test_refuses_impossible_loss(loss_fraction: float) -> None:
    """A share lies between 0 and 1; percent are a mistake."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        mos_lq_estimated("PCMU", loss_fraction)


@pytest.mark.parametrize("wrong", [{"burst_ratio": 0.5}, {"one_way_delay_ms": -1.0}])
def test_refuses_impossible_bursts_and_delays(wrong: dict[str, float]) -> None:
    """A burst ratio is at least 1, a delay at least 0."""
    g711 = codec_impairment("PCMU")
    assert g711 is not None
    with pytest.raises(ValueError, match="at least"):
        r_factor(g711, 0.0, **wrong)
