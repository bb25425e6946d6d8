"""What the engine may be asked to spoil about one call: its sound and its packets."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketFaults:
    """What happens to the RTP packets of one direction.

    Shares are percent of all packets. `jitter_ms` is the longest delay of a packet: each is late by anything
    between 0 and that, evenly. A reordered packet is overtaken by the next one. `blocked`: none gets through.
    """

    loss_percent: float = 0
    duplicate_percent: float = 0
    reorder_percent: float = 0
    jitter_ms: int = 0
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFaults:
    """The faults of one call that only the engine can bring about.

    `payload_type` is written into the packets of the agent's sound instead of the negotiated one, `noise_dbov`
    is the level of white noise mixed with it (RFC 6465), `reply_delay_ms` is the silence before each stretch of
    it. The same `seed` hits the same packets.
    """

    to_caller: PacketFaults = field(default_factory=PacketFaults)
    from_caller: PacketFaults = field(default_factory=PacketFaults)
    seed: int = 1
    payload_type: int | None = None
    noise_dbov: float | None = None
    reply_delay_ms: int = 0
