"""Sessions: what Cekura is given when it asks for a place in a channel, and the call that comes of it.

Source: docs.cekura.ai/documentation/integrations/agora (session endpoint contract). The request carries no run id.
"""

import base64
import hmac
import math
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from sip_agent.admission import FailureGuard, TokenBucket
from sip_agent.config import ENCRYPTION_MODES, AgoraSettings
from sip_agent.config.agora import SALT_BYTES
from sip_agent.errors import SipAgentError
from sip_agent.pcm_call import CallRequest
from sip_agent.platforms.agora.token import Privilege, mint_token
from sip_agent.rooms import Room, RoomDialog, RoomEndpoint

SALT_MAX = 99_999_999
"""The salt of a token, which is another than that of the encryption."""

FREE_FAILURES = 10
FAILURES_PER_S = 0.2
"""A source may send a wrong secret so often; then it is not listened to for a while."""


class SessionRefused(SipAgentError):  # noqa: N818  (an answer, and no fault of this program)
    """There is no session for this request; `status` is the HTTP status that says so."""

    def __init__(self, status: HTTPStatus, message: str, hint: str, *, retry_after_s: float = 0) -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint
        self.retry_after_s = math.ceil(retry_after_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """The encryption of a channel: the mode by name, the key as text, the salt as 32 bytes or none."""

    mode: str
    key: str = field(repr=False)
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A channel with a place for Cekura and one for the agent."""

    app_id: str
    channel: str
    guest_uid: int
    guest_token: str = field(repr=False)
    agent_uid: int
    agent_token: str = field(repr=False)
    encryption: Encryption | None

    def document(self) -> dict[str, str]:
        """Return what Cekura is answered."""
        found = {"agora_app_id": self.app_id, "agora_channel": self.channel, "agora_token": self.guest_token}
        if self.encryption is not None:
            found |= {"encryption_mode": self.encryption.mode, "encryption_key": self.encryption.key}
            if self.encryption.salt:
                found["encryption_salt"] = base64.b64encode(self.encryption.salt).decode()
        return found


def mint_session(settings: AgoraSettings, *, issued_at_s: int) -> Session:
    """Return a new session."""
    channel = settings.channel or f"sip-agent-{uuid.uuid4()}"
    lifetime_s = int(settings.token_lifetime.total_seconds())

    def token(uid: int) -> str:
        rights = (Privilege.JOIN, Privilege.PUBLISH_AUDIO, Privilege.PUBLISH_DATA)
        return mint_token(
            app_id=settings.app_id,
            certificate=settings.app_certificate.get_secret_value(),
            channel=channel,
            uid=uid,
            issued_at_s=issued_at_s,
            lifetime_s=lifetime_s,
            salt=secrets.randbelow(SALT_MAX) + 1,
            privileges=dict.fromkeys(rights, lifetime_s),
        )

    return Session(
        app_id=settings.app_id,
        channel=channel,
        guest_uid=settings.join_uid,
        guest_token=token(settings.join_uid),
        agent_uid=settings.agent_uid,
        agent_token=token(settings.agent_uid),
        encryption=_encryption(settings),
    )


def _encryption(settings: AgoraSettings) -> Encryption | None:
    mode = settings.encryption_mode
    if mode not in ENCRYPTION_MODES:
        return None
    salt = base64.b64decode(settings.encryption_salt)
    if mode.endswith("gcm2"):
        salt = salt or secrets.token_bytes(SALT_BYTES)
    return Encryption(mode=mode, key=settings.encryption_key.get_secret_value(), salt=salt)


class AgoraSessions:
    """Gives sessions to whoever has the secret, and offers each to the call flow if the agent joins by itself.

    `open_room` makes the channel of a session, not joined yet; None where a program of the user's joins.
    """

    def __init__(
        self, settings: AgoraSettings, rooms: RoomEndpoint, open_room: Callable[[Session], Room] | None
    ) -> None:
        self.settings = settings
        self._rooms = rooms
        self._open_room = open_room
        self._secret = settings.secret.get_secret_value().encode()
        self._failures = FailureGuard(FREE_FAILURES, FAILURES_PER_S)
        self._rate = TokenBucket(settings.sessions_per_minute / 60, settings.sessions_per_minute)

    def authenticate(self, source_host: str, headers: Mapping[str, str], *, now: float) -> None:
        """Raise SessionRefused unless a request has the secret. `now` is monotonic, in seconds."""
        name = self.settings.secret_header
        if self._failures.is_flooding(source_host, now):
            raise SessionRefused(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong secrets", "wait", retry_after_s=1 / FAILURES_PER_S
            )
        given = headers.get(name, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._secret):
            self._failures.failed(source_host, now)
            raise SessionRefused(
                HTTPStatus.UNAUTHORIZED,
                f"the secret in {name} is missing or wrong",
                "give Cekura the secret of agora.secret, and the header's name of agora.secret_header",
            )

    def admit(self, client_id: str, *, now: float) -> None:
        """Raise SessionRefused unless a client may have one more session. `now` is monotonic, in seconds."""
        wanted = self.settings.client_id
        if wanted and client_id != wanted:
            raise SessionRefused(
                HTTPStatus.FORBIDDEN, "the client id is missing or another", "it has to be that of agora.client_id"
            )
        if not self._rate.take(now):
            raise SessionRefused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "more sessions are asked for than agora.sessions_per_minute allows",
                "wait, or lower Cekura's concurrency_limit",
                retry_after_s=self._rate.seconds_until_token(now),
            )

    def begin(self, request: CallRequest) -> tuple[Session, RoomDialog | None]:
        """Return a new session, and its call, which is decided by the call flow."""
        session = mint_session(self.settings, issued_at_s=int(time.time()))
        if self._open_room is None:
            return session, None
        timeout_s = self.settings.join_timeout.total_seconds()
        return session, self._rooms.offer(request, self._open_room(session), join_timeout_s=timeout_s)
