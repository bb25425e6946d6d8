"""The errors that people who write handlers, or run the agent, can meet."""

from collections.abc import Sequence

from sip_agent.extra_headers import checked
from sip_agent.status import SipStatus, reason_phrase


class SipAgentError(Exception):
    """Whatever this project raises on purpose."""


class CallRejected(SipAgentError):  # noqa: N818  (a decision, raised through the flow; not an error)
    """Refuse the call with a final response.

    `status` is the SIP status (300-699), `reason` says why in the record and the log (the caller sees only
    the status), `headers` go into the response.
    """

    def __init__(
        self, status: int = SipStatus.DECLINE, reason: str = "", *, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        if not 300 <= status <= 699:
            raise ValueError(f"a call is rejected with a status from 300 to 699, not {status}")
        super().__init__(f"{int(status)} {reason or reason_phrase(status)}")
        self.status = int(status)
        self.reason = reason
        self.headers = checked(headers)


class StackRefusal(CallRejected):
    """The SIP stack has refused the INVITE by itself, and has sent the response already."""


class CallEnded(SipAgentError):  # noqa: N818  (a fact that a handler may want to catch)
    """The call was over before the operation could be carried out."""


class UserAgentError(SipAgentError):
    """The SIP stack refused an operation; `operation` names it."""

    def __init__(self, operation: str, message: str) -> None:
        super().__init__(f"{operation}: {message}")
        self.operation = operation


class SettingsError(SipAgentError):
    """A setting is wrong; the message names the key, what was found, and what to write instead."""


class SpeechError(SipAgentError):
    """Speech could not be made or recognised; the message says by what, why, and what to do."""


class MessageError(SipAgentError, ValueError):
    """A SIP message, or a part of it, that cannot be understood."""
