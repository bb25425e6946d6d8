"""What can go wrong with a platform, and what to do about it."""

from collections.abc import Mapping
from typing import Any

from sip_agent.errors import SipAgentError

WRONG_USE = 2
BROKEN = 3


class PlatformError(SipAgentError):
    """A platform did not do what was asked; `hint` says what to do, in one line.

    `exit_status` is that of a command which ends by it: 2 for wrong use or settings, 3 where something else broke.
    """

    def __init__(self, message: str, hint: str = "", *, exit_status: int = BROKEN) -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message = message
        self.hint = hint
        self.exit_status = exit_status


class Refused(PlatformError):  # noqa: N818  (an answer, and no fault of this program)
    """The platform has understood the request and refused it: nothing was done, and again would not help.

    `document` is what it answered: a JSON value, or the text where that is no JSON.
    """

    def __init__(self, message: str, hint: str, *, status: int, document: Any) -> None:
        super().__init__(message, hint, exit_status=WRONG_USE)
        self.status = status
        self.document = document

    def field(self, name: str) -> Any:
        """Return what the platform says about one field of the request, or None."""
        return self.document.get(name) if isinstance(self.document, Mapping) else None


class Unavailable(PlatformError):  # noqa: N818  (as Refused)
    """The platform could not be reached, or gave no answer that can be used; later may help.

    `sent` tells whether the request may have arrived: then what it asked for may have been done.
    `retry_after_s` is how long the platform asks to wait.
    """

    def __init__(self, message: str, hint: str = "", *, sent: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint)
        self.sent = sent
        self.retry_after_s = retry_after_s


class StartUncertain(PlatformError):  # noqa: N818  (as Refused)
    """The request that starts runs was sent, and its answer was lost: the runs may be under way.

    `found` are the results which may be those that it has begun.
    """

    def __init__(self, message: str, hint: str = "", *, found: tuple[int, ...] = ()) -> None:
        super().__init__(message, hint)
        self.found = found
