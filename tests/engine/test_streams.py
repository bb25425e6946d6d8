"""The frame port and the stream of a call: straight, or through the bridge, and what ends with the stream."""

from __future__ import annotations

import struct
import time
from functools import partial
from typing import Any, Self

import pjsua2_native as pj
import pytest

from tests.engine.engine_process import PATIENCE_S, SAMPLE_RATE_HZ, Engine, engine_test

SAMPLES = SAMPLE_RATE_HZ // 50
LOUD = 8031
"""A sample that PCMU (G.711) gives back unchanged."""


class Call(pj.Call):  # type: ignore[misc]
    """Collects digits."""

    digits = ""

    def onDtmfDigit(self, prm: Any) -> None:  # noqa: N802 - pjsua2's name
        """Keep the digit."""
        self.digits += prm.digit

    def is_talking(self) -> bool:
        """Return whether the call is confirmed and has its stream."""
        info = self.getInfo()  # held: SWIG's parts do not keep the whole alive
        confirmed = info.state == pj.PJSIP_INV_STATE_CONFIRMED
        return confirmed and [pj.PJSUA_CALL_MEDIA_ACTIVE] == [media.status for media in info.media]


class Talk:
    """A call of the engine with itself, and a port at each end."""

    def __init__(self, engine: Engine, *, codec: str = "PCMU/8000", through_bridge: bool = False) -> None:
        self.engine = engine
        for known in engine.endpoint.codecEnum2():
            engine.endpoint.codecSetPriority(known.codecId, 255 if known.codecId.startswith(codec) else 0)
        engine.account.call_class = Call
        self.caller = Call(engine.account)
        audio_only = pj.CallOpParam(True)
        audio_only.opt.audioCount, audio_only.opt.videoCount, audio_only.opt.textCount = 1, 0, 0
        self.caller.makeCall(f"sip:agent@127.0.0.1:{engine.udp_port}", audio_only)
        engine.wait_for(engine.gate.take).pass_on()
        engine.wait_for(lambda: engine.account.calls)
        self.callee = engine.account.calls.pop()
        audio_only.statusCode = 200
        self.callee.answer(audio_only)
        engine.wait_for(lambda: self.caller.is_talking() and self.callee.is_talking())
        self.ports = [pj.FramePort(name, SAMPLE_RATE_HZ, received_frames=500) for name in ("caller", "callee")]
        for call, port in self.ends():
            port.connect(call, 0, through_bridge)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        for port in self.ports:
            port.close()

    def ends(self) -> list[tuple[Call, Any]]:
        """Return each call with its port."""
        return list(zip((self.caller, self.callee), self.ports, strict=True))

    def hang_up(self) -> None:
        """End the call, if it has not ended, and with it both streams."""
        if self.caller.isActive():
            self.caller.hangup(pj.CallOpParam())
        self.engine.wait_for(lambda: not self.caller.isActive() and not self.callee.isActive())


def both_hear_each_other(talk: Talk) -> None:
    """Check that what one port says the other one hears, both ways, and that each frame is counted once."""
    loud = struct.pack("<h", LOUD) * SAMPLES
    for speaker, listener in (talk.ports, talk.ports[::-1]):
        frames: list[int] = []
        sent = speaker.sent()
        assert speaker.write(loud * 40) == 40
        speaker.finish()
        talk.engine.ticks_until(partial(is_heard, listener, frames))
        talk.engine.ticks_until(partial(is_drained, speaker))
        assert 40 == speaker.sent() - sent


def is_heard(port: Any, frames: list[int]) -> bool:
    """Add the peak of each frame that the port received to `frames`; return whether nearly all of 40 were loud."""
    received = port.read()
    samples = struct.unpack(f"<{len(received) // 2}h", received)
    frames += [max(map(abs, samples[start : start + SAMPLES])) for start in range(0, len(samples), SAMPLES)]
    return sum(abs(peak - LOUD) < LOUD / 10 for peak in frames) >= 36


def is_drained(port: Any) -> bool:
    """Return whether all that was written has been sent."""
    return not port.queued()


def listeners(port: Any) -> int:
    """Return how many ports of the bridge listen to this one."""
    return len(port.getPortInfo().listeners)


@engine_test()
def test_sound_goes_straight_between_port_and_stream(engine: Engine) -> None:
    """With the same sample rate on both there is no connection on the bridge."""
    with Talk(engine) as talk:
        both_hear_each_other(talk)
        assert [0, 0] == [listeners(port) for port in talk.ports]


@engine_test()
def test_sound_goes_through_the_bridge_when_asked(engine: Engine) -> None:
    """Where something else is to be mixed in, the bridge does what it is for."""
    with Talk(engine, through_bridge=True) as talk:
        both_hear_each_other(talk)
        assert [1, 1] == [listeners(port) for port in talk.ports]


@engine_test()
def test_sound_goes_through_the_bridge_when_it_has_to_resample(engine: Engine) -> None:
    """A stream of another sample rate cannot be taken straight."""
    with Talk(engine, codec="G722/16000") as talk:
        both_hear_each_other(talk)
        assert [1, 1] == [listeners(port) for port in talk.ports]


@engine_test()
def test_from_the_bridge_to_straight_and_back(engine: Engine) -> None:
    """A stream may change from one way to the other while the call goes on."""
    with Talk(engine, through_bridge=True) as talk:
        for call, port in talk.ends():
            port.connect(call, 0, False)
        both_hear_each_other(talk)
        for call, port in talk.ends():
            port.connect(call, 0, True)
        both_hear_each_other(talk)


@engine_test()
def test_after_the_stream_a_port_keeps_what_is_queued(engine: Engine) -> None:
    """When the call has ended the port hears silence, and plays to nobody."""
    with Talk(engine) as talk:
        port = talk.ports[0]
        both_hear_each_other(talk)
        talk.hang_up()
        engine.ticks(2)
        port.read()
        assert 20 == port.write(struct.pack("<h", LOUD) * SAMPLES * 20)
        engine.ticks(5)

        assert 20 == port.queued()
        assert {0} == set(port.read())


@engine_test()
def test_a_call_without_a_stream(engine: Engine) -> None:
    """There is nothing to connect to once the call has ended."""
    with Talk(engine) as talk:
        talk.hang_up()
        for media_index in (0, 1, 1000):
            with pytest.raises(pj.Error) as refused:
                talk.ports[0].connect(talk.caller, media_index, False)
            assert "there is no stream" == refused.value.reason


@engine_test()
def test_calls_come_and_go_while_the_clock_runs(engine: Engine) -> None:
    """Streams that end under their ports, and ports that are closed first, neither crash nor stay on the bridge."""
    before = engine.endpoint.mediaActivePorts()
    for number in range(40):
        talk = Talk(engine)
        if number % 2:
            for port in talk.ports:
                port.close()
        talk.__exit__()

    engine.ticks_until(lambda: engine.endpoint.mediaActivePorts() == before)


@engine_test()
def test_a_digit_ends_the_wait_of_the_sip_thread(engine: Engine) -> None:
    """A callback that pjsua's media thread leaves for the SIP thread does not wait for something else to happen."""
    with Talk(engine) as talk:
        engine.wait_for(lambda: not engine.endpoint.libHandleEvents(50))  # all of the call's own messages have come
        talk.caller.dialDtmf("7")
        start = time.monotonic()
        while not talk.callee.digits:
            engine.endpoint.libHandleEvents(int(PATIENCE_S * 1000))

        assert "7" == talk.callee.digits
        assert time.monotonic() - start < PATIENCE_S / 2
