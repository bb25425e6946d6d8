"""The gate: nothing that a stranger sends takes a call before Python has decided."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pjsua2_native as pj
import pytest

from tests.engine.engine_process import OFFER, Caller, Engine, engine_test, header, status_of


def held(engine: Engine) -> Any:
    """Return the next held INVITE."""
    return engine.wait_for(engine.gate.take)


@engine_test()
def test_invite_is_held_exactly_as_it_came(engine: Engine) -> None:
    """Python sees every byte of the message, where it came from, and pjsua sees nothing."""
    caller = Caller(engine)
    sent = caller.send(caller.request("INVITE", extra=b"X-Odd: \xff\xfe\x01 caf\xc3\xa9\r\nX-Run-Id: 7\r\n", sdp=OFFER))

    invite = held(engine)

    assert sent == invite.message
    assert ("127.0.0.1", caller.port) == (invite.source_host, invite.source_port)
    assert ("127.0.0.1", engine.udp_port) == (invite.local_host, invite.local_port)
    assert ("UDP", "call-1", False, False) == (invite.transport, invite.call_id, invite.cancelled, invite.decided)
    assert [] == engine.account.calls
    assert "" == caller.received()
    invite.drop()


@engine_test()
def test_large_invite_over_tcp_is_held_whole(engine: Engine) -> None:
    """Long headers, far beyond what fits a datagram of the network, arrive unchanged."""
    caller = Caller(engine, "TCP")
    sent = caller.send(caller.request("INVITE", extra=b"".join(b"X-%d: %s\r\n" % (i, b"v" * 900) for i in range(60))))

    invite = held(engine)

    assert ("TCP", sent) == (invite.transport, invite.message)
    invite.reject(486)
    assert "486 Busy Here" == status_of(engine.wait_for(caller.received))


@engine_test()
def test_rejection_carries_the_headers_it_was_given(engine: Engine) -> None:
    """A challenge goes out as asked; the INVITE that answers it is a new one."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE"))
    challenge = [("WWW-Authenticate", 'Digest realm="a", nonce="n"'), ("WWW-Authenticate", 'Digest realm="b"')]
    assert held(engine).reject(401, headers=challenge, stateful=False)

    answer = engine.wait_for(caller.received)
    assert "401 Unauthorized" == status_of(answer)
    assert [value for _, value in challenge] == [
        line.partition(": ")[2] for line in answer.splitlines() if line.startswith("WWW-Authenticate:")
    ]
    caller.send(caller.request("ACK", to_tag=header(answer, "To").partition("tag=")[2]))
    caller.send(caller.request("INVITE", 2, extra=b"Authorization: Digest nonce=n\r\n"))
    assert b"Authorization" in held(engine).message
    assert [] == engine.account.calls


@engine_test()
def test_headers_cannot_smuggle_lines(engine: Engine) -> None:
    """A line break in a header or reason is refused, and the INVITE is still there to decide on."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE"))
    invite = held(engine)

    for headers in ([("X", "a\r\nY: b")], [("X\n", "a")], [("X", "a", "b")]):
        with pytest.raises(ValueError, match="header"):
            invite.reject(403, headers=headers)
    with pytest.raises(ValueError, match="reason"):
        invite.reject(403, "No\r\nX: y")
    with pytest.raises(ValueError, match="200 is not a status that rejects"):
        invite.reject(200)
    with pytest.raises(TypeError):
        invite.reject(403, headers=[("X", 1)])
    assert not invite.decided
    invite.drop()


@engine_test()
def test_decision_is_made_once(engine: Engine) -> None:
    """After one decision every other is an error."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE"))
    invite = held(engine)
    invite.drop()

    for decide in (invite.drop, invite.pass_on, lambda: invite.reject(403)):
        with pytest.raises(pj.Error):
            decide()
    assert invite.decided


@engine_test()
def test_retransmission_of_a_held_invite_is_dropped(engine: Engine) -> None:
    """While Python thinks, the caller's retransmissions change nothing."""
    caller = Caller(engine)
    message = caller.send(caller.request("INVITE"))
    invite = held(engine)

    caller.send(message)
    engine.wait_for(lambda: engine.gate.stats()["retransmissions_dropped"] == 1)

    assert engine.gate.take() is None
    assert (1, 1) == (engine.gate.stats()["held"], engine.gate.stats()["currently_held"])
    invite.drop()
    assert 0 == engine.gate.stats()["currently_held"]


@engine_test()
def test_stateful_rejection_answers_retransmissions_itself(engine: Engine) -> None:
    """The transaction repeats the response; Python is not asked again."""
    caller = Caller(engine)
    message = caller.send(caller.request("INVITE"))
    held(engine).reject(603, "Not today")
    assert "603 Not today" == status_of(engine.wait_for(caller.received))

    caller.send(message)

    assert "603 Not today" == status_of(engine.wait_for(caller.received))
    assert engine.gate.take() is None


@engine_test()
def test_passed_on_invite_becomes_a_call(engine: Engine) -> None:
    """pass_on() calls onIncomingCall before it returns, and the stack answers as ever."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE", sdp=OFFER))

    assert 0 == held(engine).pass_on()

    assert 1 == len(engine.account.calls)
    assert "100 Trying" == status_of(engine.wait_for(caller.received))


@engine_test()
def test_pass_on_tells_what_the_stack_answered_by_itself(engine: Engine) -> None:
    """An INVITE that the stack refuses without asking Python is reported with its status."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE", sdp="v=0\r\nthis is no session description\r\n"))

    assert 400 == held(engine).pass_on()

    assert "400 Bad SDP" == status_of(engine.wait_for(caller.received))
    assert [] == engine.account.calls


@engine_test()
def test_cancel_waits_with_its_invite(engine: Engine) -> None:
    """A CANCEL of a held INVITE takes effect once the INVITE has been passed on."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE", sdp=OFFER))
    invite = held(engine)
    cancel = caller.send(caller.request("CANCEL"))
    engine.wait_for(lambda: invite.cancelled)
    caller.send(cancel)
    engine.wait_for(lambda: engine.gate.stats()["retransmissions_dropped"] == 1)

    invite.pass_on()

    answers = [status_of(engine.wait_for(caller.received)) for _ in range(3)]
    assert ["100 Trying", "200 OK", "487 Request Terminated"] == answers


@engine_test()
def test_rejected_invite_has_its_cancel_answered(engine: Engine) -> None:
    """Both requests get their final response."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE"))
    invite = held(engine)
    caller.send(caller.request("CANCEL"))
    engine.wait_for(lambda: invite.cancelled)

    invite.reject(487)

    answers = [engine.wait_for(caller.received) for _ in range(2)]
    assert [("487 Request Terminated", "1 INVITE"), ("200 OK", "1 CANCEL")] == [
        (status_of(answer), header(answer, "CSeq")) for answer in answers
    ]


@engine_test()
def test_other_requests_of_strangers_are_refused(engine: Engine) -> None:
    """Outside a dialog only INVITE, ACK, CANCEL and OPTIONS are served; inside, only what belongs to a call."""
    caller = Caller(engine)
    methods = ("REGISTER", "SUBSCRIBE", "MESSAGE", "PUBLISH", "REFER", "NOTIFY", "WHATEVER")
    for number, method in enumerate(methods):
        caller.send(caller.request(method, number))
        answer = engine.wait_for(caller.received)
        assert (method, "405 Method Not Allowed") == (method, status_of(answer))
        assert "INVITE, ACK, CANCEL, BYE, OPTIONS" == header(answer, "Allow")
    callless = ("BYE", "INFO", "UPDATE", "PRACK")
    for number, method in enumerate(callless, 10):
        caller.send(caller.request(method, number))
        assert (method, "481") == (method, status_of(engine.wait_for(caller.received))[:3])
    caller.send(caller.request("OPTIONS", 20))
    assert "200 OK" == status_of(engine.wait_for(caller.received))
    for number, (method, expected) in enumerate([("BYE", "481"), ("INVITE", "481"), ("MESSAGE", "405")], 30):
        caller.send(caller.request(method, number, to_tag="unknown"))
        assert (method, expected) == (method, status_of(engine.wait_for(caller.received))[:3])

    assert len(methods) + len(callless) + 1 == engine.gate.stats()["other_methods"]
    assert 0 == engine.gate.stats()["held"]


@engine_test(max_held=2)
def test_beyond_its_bound_the_gate_says_503(engine: Engine) -> None:
    """More INVITEs than may wait are refused without being kept, until a decision makes room."""
    caller = Caller(engine)
    for number in range(3):
        caller.send(caller.request("INVITE", call=f"call-{number}"))

    answer = engine.wait_for(caller.received)

    assert ("503 Service Unavailable", "1", "call-2") == (
        status_of(answer), header(answer, "Retry-After"), header(answer, "Call-ID"),
    )  # fmt: skip
    assert (2, 1) == (engine.gate.stats()["held"], engine.gate.stats()["overflow"])
    held(engine).drop()
    caller.send(caller.request("INVITE", call="call-3"))
    assert "call-1" == held(engine).call_id
    assert "call-3" == held(engine).call_id


@engine_test()
def test_forgotten_invite_is_answered_503(engine: Engine) -> None:
    """A HeldInvite lost on the SIP thread still answers; lost elsewhere it only frees its place."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE", call="here"))
    invite = held(engine)
    del invite
    gc.collect()
    assert "503 Service Unavailable" == status_of(engine.wait_for(caller.received))

    caller.send(caller.request("INVITE", call="elsewhere"))
    parcel = [held(engine)]
    thread = threading.Thread(target=parcel.clear)
    thread.start()
    thread.join()
    assert 0 == engine.gate.stats()["currently_held"]
    assert engine.gate.take() is None
    assert "" == caller.received()


@engine_test()
def test_blocked_source_gets_silence(engine: Engine) -> None:
    """Requests of a blocked source vanish before anything looks at them, until it is unblocked."""
    caller = Caller(engine)
    engine.gate.block("127.0.0.1")
    for number, method in enumerate(("INVITE", "OPTIONS", "REGISTER")):
        caller.send(caller.request(method, number))
    engine.wait_for(lambda: engine.gate.stats()["blocked_dropped"] == 3)
    assert engine.gate.take() is None
    assert "" == caller.received()

    engine.gate.unblock("127.0.0.1")
    caller.send(caller.request("OPTIONS", 5))
    assert "200 OK" == status_of(engine.wait_for(caller.received))


@engine_test()
def test_message_of_endless_headers_is_refused(engine: Engine) -> None:
    """An INVITE of ten thousand header fields is answered without being copied or passed on."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE", extra=b"X: 1\r\n" * 10000))

    assert "513 Too Many Headers" == status_of(engine.wait_for(caller.received))
    assert (0, 1) == (engine.gate.stats()["held"], engine.gate.stats()["oversized"])


@engine_test()
def test_garbage_is_survived(engine: Engine) -> None:
    """Whatever comes in a datagram, the next proper request is served."""
    caller = Caller(engine)
    whole = caller.request("INVITE", sdp=OFFER)
    for cut in range(40, len(whole), 7):
        caller.send(whole[:cut])
    for junk in (b"\0" * 100, b"\xff" * 3000, b"INVITE sip:x SIP/2.0\r\n" * 50, whole.replace(b"Via", b"Vvv")):
        caller.send(junk)
        caller.send(whole.replace(b"Call-ID: call-1", b"Call-ID: " + junk[:200]))
    caller.send(caller.request("OPTIONS", 99, call="last"))

    engine.wait_for(lambda: "Call-ID: last" in caller.received())
    while invite := engine.gate.take():
        invite.drop()


@engine_test(rewrite_contact=True)
def test_contact_is_rewritten_to_where_the_packet_came_from(engine: Engine) -> None:
    """The BYE goes back along the flow of the INVITE, not to the address behind the caller's NAT."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE", sdp=OFFER))
    invite = held(engine)
    assert b"192.0.2.1:5099" in invite.message
    invite.pass_on()
    prm = pj.CallOpParam()
    prm.statusCode = 200
    engine.account.calls[0].answer(prm)
    answer = engine.wait_for(lambda: (text := caller.received()).startswith("SIP/2.0 200") and text)
    caller.send(caller.request("ACK", to_tag=header(answer, "To").partition("tag=")[2]))
    engine.wait_for(lambda: engine.account.calls[0].getInfo().state == pj.PJSIP_INV_STATE_CONFIRMED)

    engine.account.calls[0].hangup(pj.CallOpParam())

    bye = engine.wait_for(caller.received)
    assert f"BYE sip:caller@127.0.0.1:{caller.port}" == status_of(bye)


@engine_test()
def test_waker_ends_the_wait_from_any_thread(engine: Engine) -> None:
    """A wait of an hour returns as soon as another thread calls wake(), however often."""
    for _ in range(3):
        done: list[int] = []
        thread = threading.Thread(target=lambda done=done: (done.append(1), engine.waker.wake(), engine.waker.wake()))
        thread.start()
        while not done:
            engine.endpoint.libHandleEvents(3_600_000)
        thread.join()


@engine_test()
def test_shutdown_with_an_invite_held_is_clean(engine: Engine) -> None:
    """The gate lets go of what was never decided; a decision after that is an error, not a crash."""
    caller = Caller(engine)
    caller.send(caller.request("INVITE"))
    caller.send(caller.request("INVITE", call="call-2"))
    invite = held(engine)

    engine.gate.close()

    with pytest.raises(pj.Error):
        invite.pass_on()
    assert b"call-1" in invite.message


@engine_test()
def test_messages_of_a_call_are_noted_once(engine: Engine) -> None:
    """The tap has what came and what was answered, forgets it when it is taken, and remembers only so many calls."""
    tap = pj.MessageTap()
    caller = Caller(engine)
    caller.send(caller.request("INVITE", sdp=OFFER))
    held(engine).reject(486, "Busy Here")
    engine.wait_for(caller.received)

    noted = [(sent, text, cseq) for _, sent, text, cseq in tap.take("call-1")]

    assert [(False, "INVITE", 1), (True, "486 Busy Here", 1)] == noted
    assert [] == tap.take("call-1")
    tap.close()
