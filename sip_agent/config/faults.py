"""The faults of a route: what goes wrong on purpose, so that a team can test its tests and its alarms."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, model_validator

from sip_agent.config.durations import format_duration
from sip_agent.config.section import Section
from sip_agent.config.values import (
    Duration,
    Number,
    NumberOrNone,
    OneWay,
    OneWayOrNone,
    OptionalDuration,
    PacketDirection,
    StatusOrNone,
    WholeNumber,
    WrongCodec,
    WrongCodecOrNone,
    at_most,
)
from sip_agent.line import LineFaults, PacketFaults

PAYLOAD_TYPES = {
    WrongCodec.PCMU: 0,
    WrongCodec.GSM: 3,
    WrongCodec.PCMA: 8,
    WrongCodec.G722: 9,
    WrongCodec.G729: 18,
}
"""Static payload types (RFC 3551 §6, table 4)."""

_RANDOM = ("loss_percent", "jitter_ms", "reorder_percent", "duplicate_percent")
_HOW = ("direction", "seed")


_IN_RINGING_TIME = at_most(timedelta(minutes=2))


class FaultSettings(Section):
    """`faults` of a route; nothing set, nothing goes wrong."""

    refuse: StatusOrNone = Field(
        None, ge=300, le=699, description="refuse every call with this status from 300 to 699; 486 is busy"
    )
    ring_only: Annotated[OptionalDuration, _IN_RINGING_TIME] = Field(
        None, description="ring for so long without answering, then refuse with 480"
    )
    answer_after: Annotated[Duration, _IN_RINGING_TIME] = Field(
        timedelta(0), description="ring for so long before the handler's answer is sent"
    )
    hang_up_after: OptionalDuration = Field(None, description="hang up so long after the answer")
    hang_up_mid_sentence: OptionalDuration = Field(
        None, description="hang up while the agent speaks, when so much of its sound has been sent"
    )
    vanish_after: OptionalDuration = Field(
        None, description="so long after the answer: no BYE, no RTP, no reply to anything, as if the agent had died"
    )
    silence_after: OptionalDuration = Field(
        None, description="so long after the answer the agent's sound becomes silence; RTP goes on"
    )
    reply_delay: Annotated[Duration, at_most(timedelta(minutes=1))] = Field(
        timedelta(0),
        description="silence before each stretch of the agent's sound, as of an agent that thinks too long",
    )
    one_way: OneWayOrNone = Field(
        None, description="no RTP gets through from the agent (agent_unheard) or to it (caller_unheard)"
    )
    noise_dbov: NumberOrNone = Field(
        None, ge=-90, le=-10, description="level of white noise mixed with the agent's sound, in dBov"
    )
    wrong_codec: WrongCodecOrNone = Field(
        None, description="RTP of the agent carries the payload type of this codec, not the negotiated one"
    )
    loss_percent: Number = Field(0, ge=0, le=100, description="RTP packets that are lost")
    jitter_ms: WholeNumber = Field(
        0, ge=0, le=1000, description="longest delay of an RTP packet; each is late by anything from 0 to this"
    )
    reorder_percent: Number = Field(0, ge=0, le=50, description="RTP packets that are overtaken by the next one")
    duplicate_percent: Number = Field(0, ge=0, le=100, description="RTP packets that come twice")
    direction: PacketDirection = Field(
        PacketDirection.TO_CALLER, description="which packets are lost, late, reordered, doubled"
    )
    seed: WholeNumber = Field(
        1, ge=0, le=2**32 - 1, description="start of the random numbers: the same seed hits the same packets"
    )

    @model_validator(mode="after")
    def _check_effect(self) -> Self:
        spoilt = [name for name in _RANDOM if getattr(self, name)]
        if self.direction is not PacketDirection.TO_CALLER and not spoilt:
            raise ValueError(f"direction says which packets are hit: say how, by {', '.join(_RANDOM)}")
        if self.seed != type(self).model_fields["seed"].default and not spoilt and self.noise_dbov is None:
            raise ValueError(f"seed starts random numbers: say of what, by {', '.join(_RANDOM)} or noise_dbov")
        return self

    @model_validator(mode="after")
    def _check_reachable(self) -> Self:
        unanswered = "refuse" if self.refuse is not None else "ring_only" if self.ring_only is not None else None
        others = [name for name in (fault.partition("=")[0] for fault in self.named) if name != unanswered]
        if unanswered and others:
            raise ValueError(f"{unanswered} leaves no call for {', '.join(others)}: take one or the other out")
        return self

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Each fault that is on, with its value, as records name it: `loss_percent=5 to_caller seed=1`."""
        return tuple(self._named())

    @cached_property
    def line(self) -> LineFaults | None:
        """The faults that the engine has to bring about; None if nothing goes wrong at all."""
        if not self.named:
            return None
        packets = {
            direction: PacketFaults(
                **({name: getattr(self, name) for name in _RANDOM} if self._spoils(direction) else {}),
                blocked=self.one_way is unheard,
            )
            for direction, unheard in (
                (PacketDirection.TO_CALLER, OneWay.AGENT_UNHEARD),
                (PacketDirection.FROM_CALLER, OneWay.CALLER_UNHEARD),
            )
        }
        return LineFaults(
            to_caller=packets[PacketDirection.TO_CALLER],
            from_caller=packets[PacketDirection.FROM_CALLER],
            seed=self.seed,
            payload_type=None if self.wrong_codec is None else PAYLOAD_TYPES[self.wrong_codec],
            noise_dbov=self.noise_dbov,
            reply_delay_ms=round(self.reply_delay.total_seconds() * 1000),
        )

    def _spoils(self, direction: PacketDirection) -> bool:
        return self.direction in {direction, PacketDirection.BOTH}

    def _named(self) -> Iterator[str]:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in _HOW or value is None or value == type(self).model_fields[name].default:
                continue
            how = f" {self.direction} seed={self.seed}" if name in _RANDOM else ""
            yield f"{name}={_text(value)}{how}"


def _text(value: timedelta | float | str) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
