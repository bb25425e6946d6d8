"""SIP status codes, and refusing with them."""

import pytest

from sip_agent.errors import CallRejected, MessageError, StackRefusal, UserAgentError
from sip_agent.status import SipStatus, reason_phrase


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (100, "Trying"),
        (200, "OK"),
        (486, "Busy Here"),
        (504, "Server Time-out"),
        (603, "Decline"),
        (199, "Progress"),
        (299, "OK"),
        (399, "Redirection"),
        (499, "Request Failure"),
        (599, "Server Failure"),
        (699, "Global Failure"),
    ],
)
def test_phrase(status: int, phrase: str) -> None:
    """A status has the phrase of its RFC; one that no RFC names has that of its class."""
    assert phrase == reason_phrase(status)


def test_status_is_a_number() -> None:
    """A status is an integer that knows its phrase, and no two share a number."""
    assert (486, "Busy Here") == (int(SipStatus.BUSY_HERE), SipStatus.BUSY_HERE.phrase)
    assert len(SipStatus.__members__) == len({int(status) for status in SipStatus})


@pytest.mark.parametrize("status", [100, 180, 200, 299, 700, 0, -1])
def test_rejection_needs_a_final_refusal(status: int) -> None:
    """A call is refused with 300 to 699 and nothing else."""
    with pytest.raises(ValueError, match=f"from 300 to 699, not {status}"):
        CallRejected(status)


def test_rejection_speaks() -> None:
    """A refusal says its reason, or else its phrase; headers are kept in order."""
    rejection = CallRejected(SipStatus.MOVED_TEMPORARILY, headers=[("Contact", "<sip:b@example.com>")])

    assert ("302 Moved Temporarily", "") == (str(rejection), rejection.reason)
    assert (("Contact", "<sip:b@example.com>"),) == rejection.headers
    assert "486 at lunch" == str(CallRejected(486, "at lunch"))
    assert 603 == CallRejected().status
    assert isinstance(StackRefusal(488), CallRejected)


def test_errors_speak() -> None:
    """An operation that was refused is named; a bad message is a bad value."""
    error = UserAgentError("transfer", "no such call")

    assert ("transfer: no such call", "transfer") == (str(error), error.operation)
    assert isinstance(MessageError("no Via"), ValueError)
