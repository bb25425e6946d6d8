"""Digest authentication of callers, on the wire (RFC 3261 §22, RFC 7616, RFC 8760)."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.calls.agent_process import AgentProcess
from tests.calls.conftest import StartAgent
from tests.calls.messages import Message
from tests.calls.peer import Peer, authorization, challenges_of
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp

USERS = {"cekura": "secret", "softphone": "pässwörd ☎", "müller": "x"}


@pytest.fixture(scope="module")
def guarded(agent_folders: Iterator[Path]) -> Iterator[AgentProcess]:
    """Run an agent that knows three users."""
    with AgentProcess(next(agent_folders), {"auth": {"users": USERS}}) as process:
        yield process


def call(peer: Peer, **answer: str) -> Message:
    """Call, answer the challenge of the algorithm `algorithm` with `answer`, and return what comes of it."""
    challenged = peer.invite()
    assert challenged.status == 401
    chosen = {challenge["algorithm"]: challenge for challenge in challenges_of(challenged)}
    challenge = chosen[answer.pop("algorithm", "MD5")]
    given = {"user": "cekura", "password": "secret", "uri": peer.uri, **answer}
    return peer.invite(headers=[authorization(challenge, **given)])


def test_sipp_authenticates(guarded: AgentProcess, sipp: Sipp) -> None:
    """SIPp's own digest is accepted; challenge and retry are one record that names the user."""
    run = sipp("digest", guarded, "-au", "cekura", "-ap", "secret")
    assert run.exit_status == 0, run.output
    assert run.ladder == ["INVITE", "401", "ACK", "INVITE", "100", "200", "ACK", "BYE", "200"]
    record = guarded.record(run.call_id)
    assert (record["auth_user"], record["outcome"], record["sip_status"]) == ("cekura", "answered", 200)
    assert record["invite_received_at"] <= record["answered_at"]


def test_sipp_with_a_wrong_password(guarded: AgentProcess, sipp: Sipp) -> None:
    """A wrong password is challenged anew, and recorded as a refusal without a user."""
    run = sipp("digest_refused", guarded, "-au", "cekura", "-ap", "guess")
    assert run.ladder == ["INVITE", "401", "ACK", "INVITE", "401", "ACK"]
    record = guarded.record(run.call_id)
    told = (record["auth_user"], record["outcome"], record["sip_status"], record["ended_by"])
    assert told == (None, "rejected", 401, "agent")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_both_algorithms(guarded: AgentProcess, algorithm: str, transport: str) -> None:
    """Both algorithms are offered, MD5 first, and either opens the door."""
    with Peer(guarded, transport) as peer:
        assert call(peer, algorithm=algorithm).status == 200
        assert peer.bye().status == 200
        offered = [challenge["algorithm"] for challenge in challenges_of(peer.seen[0])]
        assert offered == ["MD5", "SHA-256"]
        assert guarded.record(peer.call_id)["auth_user"] == "cekura"


def test_the_order_of_the_algorithms_is_a_setting(start_agent: StartAgent) -> None:
    """An agent told to offer only SHA-256 does, and MD5 is refused."""
    agent = start_agent(auth={"users": USERS, "algorithms": ["SHA-256"]})
    with Peer(agent) as peer:
        (challenge,) = challenges_of(peer.invite())
        assert (challenge["algorithm"], challenge["qop"]) == ("SHA-256", "auth")
        as_md5 = {**challenge, "algorithm": "MD5"}
        answer = authorization(as_md5, user="cekura", password="secret", uri=peer.uri)
        assert peer.invite(headers=[answer]).status == 401
        answer = authorization(challenge, user="cekura", password="secret", uri=peer.uri)
        assert peer.invite(headers=[answer]).status == 200
        assert peer.bye().status == 200


@pytest.mark.parametrize(("user", "password"), USERS.items())
def test_several_users(guarded: AgentProcess, user: str, password: str) -> None:
    """Each user has a password of its own, in any script."""
    with Peer(guarded) as peer:
        assert call(peer, user=user, password=password).status == 200
        assert peer.bye().status == 200
        assert guarded.record(peer.call_id)["auth_user"] == user


@pytest.mark.parametrize("scheme", ["Digest", "digest", "DIGEST"])
def test_the_scheme_in_any_letter_case(guarded: AgentProcess, scheme: str) -> None:
    """The scheme is a token, whose letter case means nothing (RFC 3261 §7.3.1)."""
    with Peer(guarded) as peer:
        assert call(peer, scheme=scheme).status == 200
        assert peer.bye().status == 200


@pytest.mark.parametrize(
    "uri",
    ["sip:127.0.0.1", "sip:echo@127.0.0.1:{port}", "sip:echo@127.0.0.1;transport=udp", "SIP:echo@127.0.0.1"],
)
def test_the_digest_uri_is_compared_leniently(guarded: AgentProcess, uri: str) -> None:
    """A digest made for another spelling of the same target is good: proxies and clients respell."""
    with Peer(guarded) as peer:
        assert call(peer, uri=uri.format(port=guarded.udp_port)).status == 200
        assert peer.bye().status == 200


def test_a_digest_for_another_target(guarded: AgentProcess) -> None:
    """A digest that was made for another user's URI is no good here."""
    with Peer(guarded) as peer:
        assert call(peer, uri="sip:victim@192.0.2.1").status == 401


def test_unknown_user_and_wrong_password_look_the_same(guarded: AgentProcess) -> None:
    """What a guesser gets to see does not tell a user that exists from one that does not, to the byte."""
    with Peer(guarded) as peer:
        answers = []
        for user in ("cekura", "nobody", ""):
            peer.new_dialog()
            answers.append(normal_form(call(peer, user=user, password="guess")))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].startswith("SIP/2.0 401 ")


def test_a_nonce_that_has_expired(start_agent: StartAgent) -> None:
    """A good answer to an old nonce is challenged with stale=true, and the next one is accepted: one record."""
    agent = start_agent(auth={"users": USERS, "nonce_ttl": "1s"})
    with Peer(agent) as peer:
        first = challenges_of(peer.invite())[0]
        assert peer.is_silent(1.2)
        answer = authorization(first, user="cekura", password="secret", uri=peer.uri)
        again = peer.invite(headers=[answer])
        second = challenges_of(again)[0]
        assert (again.status, second["stale"]) == (401, "true")
        answer = authorization(second, user="cekura", password="secret", uri=peer.uri)
        assert peer.invite(headers=[answer]).status == 200
        assert peer.bye().status == 200
        assert agent.record(peer.call_id)["auth_user"] == "cekura"


def test_a_wrong_answer_to_an_old_nonce_is_not_stale(start_agent: StartAgent) -> None:
    """`stale` says that the password was right: a guesser must not learn that (RFC 7616 §3.3)."""
    agent = start_agent(auth={"users": USERS, "nonce_ttl": "1s"})
    with Peer(agent) as peer:
        first = challenges_of(peer.invite())[0]
        assert peer.is_silent(1.2)
        answer = authorization(first, user="cekura", password="guess", uri=peer.uri)
        again = peer.invite(headers=[answer])
    assert (again.status, [challenge.get("stale") for challenge in challenges_of(again)]) == (401, [None, None])


def test_an_answer_that_is_replayed(guarded: AgentProcess) -> None:
    """An eavesdropper who sends the same credentials again gets a challenge, not a call."""
    with Peer(guarded) as peer, Peer(guarded) as thief:
        challenge = challenges_of(peer.invite())[0]
        answer = authorization(challenge, user="cekura", password="secret", uri=peer.uri)
        assert peer.invite(headers=[answer]).status == 200
        assert thief.invite(headers=[answer]).status == 401
        assert peer.bye().status == 200


def test_one_nonce_serves_several_calls(guarded: AgentProcess) -> None:
    """A client that counts its uses of a nonce need not be challenged again (RFC 7616 §3.4)."""
    with Peer(guarded) as peer:
        challenge = challenges_of(peer.invite())[0]
        for count in ("00000001", "00000002"):
            answer = authorization(challenge, user="cekura", password="secret", uri=peer.uri, nc=count)
            assert peer.invite(headers=[answer]).status == 200
            assert peer.bye().status == 200
            peer.new_dialog()


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Basic Y2VrdXJhOnNlY3JldA==",
        "Authorization:",
        "Authorization: Digest",
        'Authorization: Digest username="cekura", realm="sip-agent"',
        'Authorization: Digest username="cekura',
        "Authorization: Digest " + "a=b," * 500,
        'Authorization: Digest username="cekura", realm="sip-agent", nonce="x", uri="sip:x", response="y"',
    ],
    ids=["basic", "empty", "bare", "incomplete", "unclosed", "long", "forged"],
)
def test_answers_that_are_no_answers(guarded: AgentProcess, header: str) -> None:
    """Whatever stands in Authorization, nonsense opens no door; what is no SIP at all may go unanswered."""
    with Peer(guarded) as peer:
        peer.send(peer.build("INVITE", headers=[header], body=peer.offer()))
        with suppress(TimeoutError):
            assert peer.final("INVITE", timeout_s=0.5).status in {400, 401}
        peer.new_dialog()
        assert call(peer).status == 200
        assert peer.bye().status == 200


def test_the_password_is_nowhere(guarded: AgentProcess) -> None:
    """Neither the password nor the answer to a challenge stands in the log or the record."""
    with Peer(guarded) as peer:
        challenge = challenges_of(peer.invite())[0]
        answer = authorization(challenge, user="cekura", password="secret", uri=peer.uri)
        digest = answer.partition('response="')[2].partition('"')[0]
        assert peer.invite(headers=[answer]).status == 200
        assert peer.bye().status == 200
        record = guarded.record(peer.call_id)
    log = guarded.log_file.read_text(encoding="utf-8")
    assert digest not in log
    assert digest not in str(record)
    assert '"secret"' not in log


def normal_form(message: Message) -> str:
    """Return a message without what differs from one message to the next: tags, nonces, branches, ids."""
    text = re.sub(r'nonce="[^"]*"', 'nonce=""', message.text)
    text = re.sub(r"(tag|branch)=[\w.-]+", r"\1=", text)
    return re.sub(r"Call-ID: \S+", "Call-ID:", text)
