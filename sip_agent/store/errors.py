"""What the store raises while calls go on."""

from sip_agent.errors import SipAgentError


class StoreError(SipAgentError):
    """A call record is not in the database (yet); the call itself goes on.

    `kept` says whether the record waits in memory and is written once the database works again. If it does
    not, memory was full or the store closed, and the log is the only place that has it.
    """

    def __init__(self, message: str, *, kept: bool) -> None:
        super().__init__(message)
        self.kept = kept
