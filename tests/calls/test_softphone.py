"""baresip, a softphone with a SIP stack of its own, calls the agent."""

from pathlib import Path

import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.baresip import TONE_HZ, Baresip
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.rtp import strongest_hz

pytestmark = pytest.mark.baresip

# libre 2, which this baresip is built on, ends its call when any other algorithm is offered beside MD5.
BARESIP_AUTH = {"users": {"cekura": "secret"}, "algorithms": ["MD5"]}


def heard_hz(phone: Baresip) -> float:
    """Return the tone in the last half second that the phone heard."""
    samples, rate_hz = phone.heard()
    return strongest_hz(samples[-rate_hz // 2 :], rate_hz)


@pytest.mark.parametrize(
    ("codec", "name"),
    [("opus/48000/2", "opus"), ("G722/16000/1", "G722"), ("PCMU/8000/1", "PCMU"), ("PCMA/8000/1", "PCMA")],
)
def test_sound_in_each_codec(agent: AgentProcess, tmp_path: Path, codec: str, name: str) -> None:
    """The softphone hears its own tone come back through each codec."""
    with Baresip(tmp_path, f"audio_codecs={codec}") as phone:
        call_id = phone.call(agent)
        eventually(lambda: phone.heard_ms() > 1000, "second of echo")
        phone.hang_up()
        record = agent.record(call_id)
    assert heard_hz(phone) == pytest.approx(TONE_HZ, abs=10)
    assert (record["codec"], record["outcome"], record["ended_by"]) == (name, "answered", "caller")
    assert record["user_agent"].startswith("baresip")
    assert record["rtp"]["rx"]["packets"] > 25


def test_digest(start_agent: StartAgent, tmp_path: Path) -> None:
    """The softphone authenticates with the right password, and not with a wrong one."""
    agent = start_agent(auth=BARESIP_AUTH)
    with Baresip(tmp_path / "right", "auth_user=cekura", "auth_pass=secret") as phone:
        call_id = phone.call(agent)
        phone.hang_up()
    assert agent.record(call_id)["auth_user"] == "cekura"
    with Baresip(tmp_path / "wrong", "auth_user=cekura", "auth_pass=guess") as phone:
        closed = phone.dial(agent)
    assert "established" not in closed["type"].lower()
    record = agent.record(closed["id"])
    assert (record["outcome"], record["sip_status"], record["auth_user"]) == ("rejected", 401, None)


@pytest.mark.parametrize(
    ("setting", "encryption"),
    [("optional", "srtp"), ("optional", "srtp-mandf"), ("mandatory", "srtp-mand"), ("mandatory", "srtp-mandf")],
)
def test_srtp(start_agent: StartAgent, tmp_path: Path, setting: str, encryption: str) -> None:
    """With SDES the sound is encrypted both ways, and still the same tone."""
    agent = start_agent(media={"srtp": setting})
    with Baresip(tmp_path, f"mediaenc={encryption}", "audio_codecs=PCMA/8000/1") as phone:
        call_id = phone.call(agent)
        eventually(lambda: phone.heard_ms() > 1000, "second of echo")
        phone.hang_up()
        record = agent.record(call_id)
    assert heard_hz(phone) == pytest.approx(TONE_HZ, abs=10)
    assert record["srtp"]
    assert record["rtp"]["rx"]["packets"] > 25


def test_srtp_is_optional(start_agent: StartAgent, tmp_path: Path) -> None:
    """Where SRTP is optional, a phone that has none is served in clear."""
    agent = start_agent(media={"srtp": "optional"})
    with Baresip(tmp_path) as phone:
        call_id = phone.call(agent)
        eventually(lambda: phone.heard_ms() > 500, "echo")
        phone.hang_up()
        record = agent.record(call_id)
    assert (record["outcome"], record["srtp"]) == ("answered", None)


def test_srtp_is_mandatory(start_agent: StartAgent, tmp_path: Path) -> None:
    """Where SRTP is mandatory, a phone that offers none gets 488."""
    agent = start_agent(media={"srtp": "mandatory"})
    with Baresip(tmp_path) as phone:
        closed = phone.dial(agent)
    assert closed["param"].startswith("488")
    record = agent.record(closed["id"])
    assert (record["outcome"], record["sip_status"]) == ("rejected", 488)


def test_tls(start_agent: StartAgent, tmp_path: Path, tls_files: dict[str, str]) -> None:
    """Signalling over TLS and sound over SRTP: what a careful softphone does."""
    agent = start_agent(sip={"tls": tls_files}, media={"srtp": "mandatory"})
    certificate = tmp_path / "phone.pem"
    parts = [Path(tls_files[name]).read_text(encoding="ascii") for name in ("certificate", "private_key")]
    certificate.write_text("".join(parts), encoding="ascii")
    with Baresip(tmp_path, "mediaenc=srtp-mandf", certificate=str(certificate), transport="tls") as phone:
        call_id = phone.call(agent)
        eventually(lambda: phone.heard_ms() > 500, "echo")
        phone.hang_up()
        record = agent.record(call_id)
    assert (record["transport"], record["outcome"]) == ("TLS", "answered")
    assert record["srtp"]


def test_digits(start_agent: StartAgent, tmp_path: Path) -> None:
    """The digits that the softphone sends as telephone-events reach the handler."""
    agent = start_agent(routes=ROUTES)
    with Baresip(tmp_path) as phone:
        call_id = phone.call(agent, "collect")
        phone.press("42#")
        phone.event("CALL_CLOSED")
        record = agent.record(call_id)
    assert [("caller", "42")] == [(item["speaker"], item["text"]) for item in record["transcript"]]
    assert ["4", "2", "#"] == [item["digit"] for item in record["dtmf"]]
