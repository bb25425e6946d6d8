"""SIP messages as a peer of the agent sees them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One SIP message that SIPp sent or received."""

    sent: bool
    raw: bytes

    @property
    def text(self) -> str:
        """The message as text."""
        return self.raw.decode("utf-8", "replace")

    @property
    def start_line(self) -> str:
        """The request line or status line."""
        return self.text.partition("\r\n")[0]

    @property
    def status(self) -> int:
        """The status of a response, 0 for a request."""
        word, _, rest = self.start_line.partition(" ")
        return int(rest[:3]) if word == "SIP/2.0" else 0

    @property
    def method(self) -> str:
        """The method of the request, or of the request that a response answers."""
        return self.header("CSeq").rpartition(" ")[2]

    @property
    def body(self) -> str:
        """What follows the header section."""
        return self.text.partition("\r\n\r\n")[2]

    def header(self, name: str) -> str:
        """Return the first value of a header, "" if there is none."""
        return next(iter(self.headers(name)), "")

    def headers(self, name: str) -> list[str]:
        """Return every value of a header."""
        head = self.text.partition("\r\n\r\n")[0].split("\r\n")[1:]
        pairs = (line.partition(":") for line in head)
        return [value.strip() for key, _, value in pairs if key.strip().lower() == name.lower()]


def ladder(messages: Sequence[Message]) -> list[str]:
    """Return a readable sequence: `INVITE`, `100`, `200`, `ACK`, `[BYE]`, …; our answers to requests are left out."""
    steps: list[str] = []
    for message in messages:
        if message.status:
            if not message.sent:
                steps.append(str(message.status))
        else:
            method = message.start_line.partition(" ")[0]
            steps.append(method if message.sent else f"[{method}]")
    return steps
