"""Frame ports on the PyPI engine; the native one is tested in tests/engine."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from sip_agent.ua import engine, frame_port
from sip_agent.ua.frame_port import FramePorts


class BridgePort:
    """Stands for the port on the bridge, whose freeing the media clock does not survive."""

    numbers: Iterator[int] = count()
    rings: Any = None

    def __init__(self, sample_rate_hz: int) -> None:
        self.number = next(self.numbers)
        self.sample_rate_hz = sample_rate_hz


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> FramePorts:
    """Give ports of the PyPI engine."""
    monkeypatch.setattr(engine, "is_native", lambda: False)
    monkeypatch.setattr(frame_port, "_light_port_class", lambda: BridgePort)
    monkeypatch.setattr(BridgePort, "numbers", count())
    return FramePorts(8000)


def test_a_closed_port_is_used_again(ports: FramePorts) -> None:
    """There are as many ports on the bridge as there were calls at once, and each serves one call at a time."""
    first, second = ports.open(40), ports.open(40)
    on_bridge: Any = second._port  # type: ignore[attr-defined]
    second.close()
    assert on_bridge.rings is None
    third, fourth = ports.open(40), ports.open(40)
    assert [port._port.number for port in (first, third, fourth)] == [0, 1, 2]  # type: ignore[attr-defined]
    assert on_bridge.rings is third
