"""Hearing and speaking on real calls: barge-in on the wire, utterances, digits by every way there is."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.dtmf import dtmf_tones
from media.frames import Samples, silence
from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent, dial
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, FRAME_SAMPLES, RtpPeer, decode_pcma
from tests.calls.sdp_text import audio_address
from tests.media.voices import scene, spoken

pytestmark = pytest.mark.sipp

HANDLERS = "tests.calls.hearing_handlers"
SENTENCE = "Excuse me, I would like to say something now."

ROUTES = [
    dial("stop", f"{HANDLERS}:Interrupted", barge_in="stop"),
    dial("pause", f"{HANDLERS}:Interrupted", barge_in="pause"),
    dial("ignore", f"{HANDLERS}:Interrupted", barge_in="ignore"),
    dial("intrude", f"{HANDLERS}:Intrudes", barge_in="stop"),
    dial("wait", f"{HANDLERS}:Intrudes", barge_in="pause"),
    dial("understand", f"{HANDLERS}:Understand"),
    dial("record"),
    dial("say", f"{HANDLERS}:SayAndDial"),
]


@pytest.fixture(scope="module")
def hearing_agent(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Run an agent whose handlers listen."""
    with AgentProcess(tmp_path_factory.mktemp("hearing"), {"routes": ROUTES}) as process:
        yield process


def words(*parts: Samples | int) -> Samples:
    """Return what a caller says, at 8 kHz; numbers are milliseconds of silence."""
    return scene(*parts, sample_rate_hz=CLOCK_RATE_HZ)


def loud_frames(rtp: RtpPeer) -> list[bool]:
    """Return for each packet received whether something was in it."""
    packets = list(rtp.packets)
    return [int(np.abs(decode_pcma(packet.payload)).max()) > 300 for packet in packets if packet.payload_type == 8]


def spoken_to(agent: AgentProcess, user: str, sound: Samples, *, packets: int) -> tuple[dict, list[bool]]:  # type: ignore[type-arg]
    """Call `user`, say something, and return the record and which packets had sound."""
    with Peer(agent) as peer, RtpPeer(sound) as rtp:
        response = peer.invite(user, sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) >= packets, f"{packets} packets", 20)
        assert peer.bye().status == 200
        return agent.record(peer.call_id), loud_frames(rtp)


class TestBargeIn:
    """The caller speaks while the agent plays."""

    def test_the_wire_falls_silent(self, hearing_agent: AgentProcess) -> None:
        """Not one frame leaves after the stop: what was on the wire is what the handler was told, and then silence."""
        voice = words(1500, spoken(SENTENCE, CLOCK_RATE_HZ), 8000)
        record, loud = spoken_to(hearing_agent, "stop", voice, packets=250)
        (said,) = record["transcript"]

        assert 1000 < int(said["text"]) < 3000
        assert int(said["text"]) / 20 == pytest.approx(sum(loud), abs=2)
        assert [True, False] == [sounding for sounding, _ in groupby(loud[loud.index(True) :])]

    def test_the_recording_shows_it(self, hearing_agent: AgentProcess) -> None:
        """In the recording the tone ends within a fifth of a second after the caller's first sound."""
        voice = words(1500, spoken(SENTENCE, CLOCK_RATE_HZ), 8000)
        record, _ = spoken_to(hearing_agent, "stop", voice, packets=250)
        samples, rate_hz = soundfile.read(Path(record["recording"]["path"]), dtype="int16")
        caller_began = int(np.flatnonzero(np.abs(samples[:, 0]) > 500)[0])
        agent_ended = int(np.flatnonzero(np.abs(samples[:, 1]) > 500)[-1])

        assert 0 < (agent_ended - caller_began) / rate_hz < 0.3

    def test_a_cough_only_pauses(self, hearing_agent: AgentProcess) -> None:
        """With `pause`, the tone goes on after a short sound, and not one of its frames is lost."""
        cough = spoken("Ah", CLOCK_RATE_HZ)[: CLOCK_RATE_HZ * 170 // 1000]
        record, loud = spoken_to(hearing_agent, "pause", words(1500, cough, 20_000), packets=300)

        runs = [(sounding, len(list(run))) for sounding, run in groupby(loud[loud.index(True) :])]
        assert [True, False, True] == [sounding for sounding, _ in runs]
        assert 20 <= runs[1][1] <= 60
        assert [] == record["stalls"]

    def test_speech_ends_a_pause(self, hearing_agent: AgentProcess) -> None:
        """With `pause`, speech that goes on stops the tone for good."""
        voice = words(1500, spoken(SENTENCE, CLOCK_RATE_HZ), 8000)
        record, loud = spoken_to(hearing_agent, "pause", voice, packets=250)

        assert [True, False] == [sounding for sounding, _ in groupby(loud[loud.index(True) :])]
        assert int(record["transcript"][0]["text"]) / 20 == pytest.approx(sum(loud), abs=2)

    def test_nobody_is_spoken_to_while_speaking(self, hearing_agent: AgentProcess) -> None:
        """A tone that begins while the caller speaks already is dropped before its first frame."""
        voice = words(500, spoken(SENTENCE, CLOCK_RATE_HZ), 8000)
        record, loud = spoken_to(hearing_agent, "intrude", voice, packets=250)

        assert "0 True" == record["transcript"][0]["text"]
        assert not any(loud)

    def test_a_pause_lasts_until_the_caller_is_silent(self, hearing_agent: AgentProcess) -> None:
        """With `pause`, it waits until the caller has spoken, and all of it is heard then."""
        voice = words(500, spoken(SENTENCE, CLOCK_RATE_HZ), 8000)
        record, loud = spoken_to(hearing_agent, "wait", voice, packets=350)

        assert "2000 False" == record["transcript"][0]["text"]
        assert loud.index(True) * 20 > len(voice) // 8 - 8000
        assert 100 == pytest.approx(sum(loud), abs=2)

    def test_nothing_stops_who_does_not_listen(self, hearing_agent: AgentProcess) -> None:
        """With `ignore`, the tone goes on through it."""
        voice = words(500, spoken(SENTENCE, CLOCK_RATE_HZ), 8000)
        _, loud = spoken_to(hearing_agent, "ignore", voice, packets=150)

        assert all(loud[loud.index(True) :])


def test_utterances(hearing_agent: AgentProcess) -> None:
    """Sentences that came by RTP, through the jitter buffer, are heard as long as they were."""
    sentences = [spoken(text, CLOCK_RATE_HZ) for text in (SENTENCE, "And one more thing, if I may.")]
    sound = words(800, sentences[0], 1200, sentences[1], 20_000)
    record, _ = spoken_to(hearing_agent, "understand", sound, packets=len(sound) // FRAME_SAMPLES - 900)

    assert [pytest.approx(len(sentence) / 8, abs=300) for sentence in sentences] == [
        int(entry["text"]) for entry in record["transcript"]
    ]


def test_what_is_said_is_heard(hearing_agent: AgentProcess) -> None:
    """`say` puts speech on the wire and the text into the transcript; digits by INFO follow."""
    with Peer(hearing_agent) as peer, RtpPeer(silence(1000, CLOCK_RATE_HZ)) as rtp:
        response = peer.invite("say", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        bodies = []
        for _ in range(2):
            info = peer.await_request("INFO", 15)
            peer.reply(info)
            bodies.append(info.raw.partition(b"\r\n\r\n")[2])
        peer.reply(peer.await_request("BYE"))
        record = hearing_agent.record(peer.call_id)
        loud = loud_frames(rtp)

    assert [b"Signal=4\r\nDuration=160", b"Signal=#\r\nDuration=160"] == [body.strip() for body in bodies]
    assert ["Good evening, and welcome to the agent."] == [entry["text"] for entry in record["transcript"]]
    assert 60 <= sum(loud) <= 250


class TestDigits:
    """Digits by each way."""

    def test_tones_where_there_is_no_telephone_event(self, hearing_agent: AgentProcess) -> None:
        """A caller whose SDP has no telephone-event may send tones; each is one digit."""
        sound = words(500, dtmf_tones("0123456789*#", CLOCK_RATE_HZ), 20_000)
        with Peer(hearing_agent) as peer, RtpPeer(sound) as rtp:
            offer = peer.offer(port=rtp.port).replace(" 101\r\n", "\r\n", 1)
            offer = "".join(line for line in offer.splitlines(keepends=True) if ":101 " not in line)
            response = peer.invite("record", sdp=offer)
            assert b"telephone-event" not in response.raw
            rtp.send_to(audio_address(response.body))
            eventually(lambda: len(rtp.packets) > 170, "the end of the digits")
            peer.bye()
            record = hearing_agent.record(peer.call_id)

        assert "0123456789*#" == "".join(item["digit"] for item in record["dtmf"])
        assert {"inband"} == {item["method"] for item in record["dtmf"]}

    def test_tones_beside_telephone_event(self, hearing_agent: AgentProcess) -> None:
        """Where telephone-event was agreed, tones are sound and no digits."""
        sound = words(500, dtmf_tones("123", CLOCK_RATE_HZ), 20_000)
        record, _ = spoken_to(hearing_agent, "record", sound, packets=80)

        assert [] == record["dtmf"]

    def test_always(self, start_agent: StartAgent) -> None:
        """With `always`, a digit that comes as an event and as a tone is one digit."""
        agent = start_agent(routes=[dial("record")], hearing={"in_band_dtmf": "always"})
        sound = words(500, dtmf_tones("7", CLOCK_RATE_HZ), 300, dtmf_tones("8", CLOCK_RATE_HZ), 20_000)
        with Peer(agent) as peer, RtpPeer(sound) as rtp:
            response = peer.invite("record", sdp=peer.offer(port=rtp.port))
            remote = audio_address(response.body)
            rtp.send_to(remote)
            eventually(lambda: rtp.sent > 40, "first tone")
            rtp.send_digit("7", remote)
            eventually(lambda: rtp.sent > 100, "second tone")
            peer.bye()
            record = agent.record(peer.call_id)

        assert "78" == "".join(item["digit"] for item in record["dtmf"])

    @pytest.mark.parametrize(
        ("content_type", "body", "digit"),
        [
            ("application/dtmf-relay", "Signal=5\r\nDuration=250\r\n", ("5", 250)),
            ("application/dtmf-relay", "Signal= 11\r\nDuration= 160\r\n", ("#", 160)),
            ("application/dtmf", "*", ("*", None)),
        ],
    )
    def test_info(self, hearing_agent: AgentProcess, content_type: str, body: str, digit: tuple[str, int]) -> None:
        """Both types of INFO carry digits, and are answered."""
        with Peer(hearing_agent) as peer:
            peer.invite("record")
            assert 200 == peer.request("INFO", body=body, content_type=content_type).status
            peer.bye()
            record = hearing_agent.record(peer.call_id)

        assert [("info", *digit)] == [(item["method"], item["digit"], item["duration_ms"]) for item in record["dtmf"]]

    @pytest.mark.parametrize("held", [True, False])
    def test_a_long_time_before_the_info(self, hearing_agent: AgentProcess, *, held: bool) -> None:
        """A key held for long, of which an INFO tells when it is let go, is one digit; one let go before is another."""
        with Peer(hearing_agent) as peer, RtpPeer(silence(1000, CLOCK_RATE_HZ)) as rtp:
            remote = audio_address(peer.invite("record", sdp=peer.offer(port=rtp.port)).body)
            rtp.send_to(remote)
            began = rtp.press_digit("7", remote)
            if not held:
                rtp.release_digit("7", remote, began, 640)
            eventually(lambda: rtp.sent > 100, "2 s of sound")
            if held:
                rtp.release_digit("7", remote, began, 15_200)
            duration_ms = 160 if held else 20_000
            peer.request("INFO", body=f"Signal=7\r\nDuration={duration_ms}\r\n", content_type="application/dtmf-relay")
            peer.bye()
            record = hearing_agent.record(peer.call_id)

        expected = [("7", "rfc4733")] if held else [("7", "rfc4733"), ("7", "info")]
        assert expected == [(item["digit"], item["method"]) for item in record["dtmf"]]

    def test_other_info(self, hearing_agent: AgentProcess) -> None:
        """One without a body is answered (RFC 6086), one of another type says which types are understood."""
        with Peer(hearing_agent) as peer:
            peer.invite("record")
            assert 200 == peer.request("INFO").status
            refused = peer.request("INFO", body="<x/>", content_type="application/media_control+xml")
            peer.bye()
            record = hearing_agent.record(peer.call_id)

        assert (415, "application/dtmf-relay, application/dtmf") == (refused.status, refused.header("Accept"))
        assert [] == record["dtmf"]
