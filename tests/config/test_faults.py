"""The faults of a route as settings: what may be written, and what is made of it."""

from datetime import timedelta
from pathlib import Path

import pytest

from sip_agent.config import FaultSettings, Settings, load_settings
from sip_agent.errors import SettingsError
from sip_agent.line import LineFaults, PacketFaults


def load(tmp_path: Path, faults: str) -> Settings:
    """Return settings of one route with these faults, written as in the file."""
    file = tmp_path / "sip-agent.toml"
    file.write_text(f'[[routes]]\nhandler = "echo"\nfaults = {{ {faults} }}\n', encoding="utf-8")
    return load_settings(file)


def test_nothing_goes_wrong_by_default() -> None:
    """A route without faults names none and asks nothing of the engine."""
    faults = Settings().routes[0].faults
    assert ((), None) == (faults.named, faults.line)


def test_values(tmp_path: Path) -> None:
    """Durations, numbers and words are written as everywhere in the file."""
    settings = load(tmp_path, 'answer_after = "1.5s", loss_percent = 2.5, one_way = "agent_unheard", seed = 7')
    faults = settings.routes[0].faults
    assert (timedelta(seconds=1.5), 2.5, "agent_unheard") == (faults.answer_after, faults.loss_percent, faults.one_way)


def test_names() -> None:
    """Each fault is named with its value, in the order of the documentation; random ones with what repeats them."""
    faults = FaultSettings(
        seed=7, direction="both", jitter_ms=30, loss_percent=2.5, silence_after="0s", noise_dbov=-40, wrong_codec="GSM"
    )
    assert faults.named == (
        "silence_after=0s",
        "noise_dbov=-40",
        "wrong_codec=GSM",
        "loss_percent=2.5 both seed=7",
        "jitter_ms=30 both seed=7",
    )


@pytest.mark.parametrize(
    ("direction", "to_caller", "from_caller"),
    [
        ("to_caller", PacketFaults(loss_percent=5), PacketFaults()),
        ("from_caller", PacketFaults(), PacketFaults(loss_percent=5)),
        ("both", PacketFaults(loss_percent=5), PacketFaults(loss_percent=5)),
    ],
)
def test_direction(direction: str, to_caller: PacketFaults, from_caller: PacketFaults) -> None:
    """Faults of packets hit the direction that is named."""
    assert FaultSettings(loss_percent=5, direction=direction).line == LineFaults(
        to_caller=to_caller, from_caller=from_caller
    )


def test_what_the_engine_is_asked() -> None:
    """One way blocks one direction; a codec becomes its static payload type; a delay is in milliseconds."""
    faults = FaultSettings(one_way="caller_unheard", wrong_codec="G729", reply_delay="250ms", noise_dbov=-40, seed=3)
    assert faults.line == LineFaults(
        from_caller=PacketFaults(blocked=True), payload_type=18, reply_delay_ms=250, noise_dbov=-40, seed=3
    )


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("refuse = 200", "routes[0].faults.refuse = 200: write a number from 300 on"),
        ("loss_percent = 101", "routes[0].faults.loss_percent = 101: write a number up to 100"),
        ("loss_percent = true", "routes[0].faults.loss_percent = true: write a number"),
        ("duplicate_percent = false", "routes[0].faults.duplicate_percent = false: write a number"),
        ("noise_dbov = true", "routes[0].faults.noise_dbov = true: write a number"),
        ("loss_percent = nan", "routes[0].faults.loss_percent"),
        ("seed = 5", "routes[0].faults: seed starts random numbers: say of what, by loss_percent"),
        ('seed = 5, answer_after = "1s"', "routes[0].faults: seed starts random numbers: say of what"),
        ("reorder_percent = 51", "routes[0].faults.reorder_percent = 51: write a number up to 50"),
        ('loss_percent = "many"', 'routes[0].faults.loss_percent = "many": write a number'),
        ("loss = 5", "routes[0].faults.loss: no such setting; did you mean"),
        ('one_way = "left"', "routes[0].faults.one_way"),
        ('wrong_codec = "opus"', "routes[0].faults.wrong_codec"),
        ('answer_after = "10m"', 'routes[0].faults.answer_after = "10m": write a duration up to 2m'),
        ('direction = "both"', "routes[0].faults: direction says which packets are hit: say how, by loss_percent"),
        ('direction = "from_caller", noise_dbov = -40', "routes[0].faults: direction says which packets are hit"),
        ("refuse = 486, loss_percent = 5", "routes[0].faults: refuse leaves no call for loss_percent"),
        ('ring_only = "5s", hang_up_after = "1s"', "routes[0].faults: ring_only leaves no call for hang_up_after"),
    ],
)
def test_wrong_values(tmp_path: Path, written: str, told: str) -> None:
    """What makes no sense is refused, with the key and what to write instead."""
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, written)
    assert told in str(raised.value)
