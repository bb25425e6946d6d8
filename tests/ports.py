"""Ports for the programs that tests start: free, not another program's, and no other test process's to choose.

They lie below the system's ephemeral range, and each process of a parallel run has its own share of them: a port
is only bound some time after it was found to be free. Where it begins in its share is drawn, so that two runs on one
machine hardly meet.
"""

import os
import random
import socket
from itertools import cycle

SINGLE = range(10_000, 15_000)
RTP = range(15_000, 32_000)
"""Apart, since the agent's own default for RTP may not hold its SIP ports."""


def own_share(ports: range) -> range:
    """Return the ports of this process of a parallel run (pytest-xdist numbers them gw0, gw1 …)."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(ports) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return ports[number * size : (number + 1) * size]


_lots = random.SystemRandom()
"""Not the common generator: pytest-randomly begins it anew with each test, from a seed that runs may share."""

_turns = cycle(own_share(SINGLE))
for _ in range(_lots.randrange(len(own_share(SINGLE)))):
    next(_turns)

_rtp_handed_out: set[int] = set()


def free_port(kind: socket.SocketKind, host: str = "127.0.0.1") -> int:
    """Return a port that is free now; the same one comes again only after all the others."""
    for _ in own_share(SINGLE):
        port = next(_turns)
        if _is_free(port, kind, host):
            return port
    raise AssertionError("no port is free")


def free_rtp_range(count: int) -> tuple[int, int]:
    """Return the first, which is even, and last of `count` free UDP ports in a row."""
    for _ in range(1000):
        first = _lots.choice(own_share(RTP)[:-count]) & ~1
        ports = range(first, first + count)
        if _rtp_handed_out.isdisjoint(ports) and all(_is_free(port, socket.SOCK_DGRAM) for port in ports):
            _rtp_handed_out.update(ports)
            return first, first + count - 1
    raise AssertionError(f"no {count} UDP ports in a row are free")


def give_back(ports: tuple[int, ...]) -> None:
    """Let a range of ports be handed out again."""
    first, last = ports
    _rtp_handed_out.difference_update(range(first, last + 1))


def _is_free(port: int, kind: socket.SocketKind, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
