"""Digest authentication of callers (RFC 3261 §22, RFC 7616, RFC 8760): the challenge and the verdict."""

import base64
import hashlib
import heapq
import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from sip_agent.errors import MessageError
from sip_agent.invite import SipUri

# A nonce: when it was issued (milliseconds), what makes it unique, and the HMAC that proves it ours. It is
# hexadecimal in one letter case, so that one nonce has one spelling.
_NONCE = re.compile(r"([0-9a-f]{12})([0-9a-f]{20})([0-9a-f]{32})")

# Possessive quantifiers keep hostile text from making these backtrack.
_SCHEME = re.compile(r"\s*+(\S++)")
_PARAMETER = re.compile(r'[\s,]*+([^\s=,"]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^,"]*+))\s*+(?=,|\Z)', re.DOTALL)
# `DOMAIN\user`, which Windows clients forget to escape, keeps its backslash.
_ESCAPE = re.compile(r'\\(["\\])')
_NONCE_COUNT = re.compile(r"[0-9A-Fa-f]{1,8}")
_VISUAL_SEPARATORS = re.compile(r"[-.()]")

# Requests of one nonce may overtake each other by this much.
_REORDERING_WINDOW = 32
_EXHAUSTED = 2**32


class DigestAlgorithm(StrEnum):
    """A hash algorithm of digest authentication, by its name in the `algorithm` parameter."""

    MD5 = "MD5"
    SHA_256 = "SHA-256"
    SHA_512_256 = "SHA-512-256"


_HASHES: Mapping[DigestAlgorithm, Callable[[bytes], "hashlib._Hash"]] = {
    DigestAlgorithm.MD5: partial(hashlib.md5, usedforsecurity=False),
    DigestAlgorithm.SHA_256: hashlib.sha256,
    DigestAlgorithm.SHA_512_256: partial(hashlib.new, "sha512_256"),
}


class RefusalReason(StrEnum):
    """Why credentials were not accepted."""

    NO_CREDENTIALS = "no_credentials"
    MALFORMED = "malformed"
    WRONG_REALM = "wrong_realm"
    UNSUPPORTED_ALGORITHM = "unsupported_algorithm"
    UNSUPPORTED_QOP = "unsupported_qop"
    WRONG_CREDENTIALS = "wrong_credentials"
    WRONG_URI = "wrong_uri"
    UNKNOWN_NONCE = "unknown_nonce"
    STALE_NONCE = "stale_nonce"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated:
    """The caller proved to be `user`."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The caller is to be challenged; `stale` says that only the nonce is to blame (RFC 7616 §3.3)."""

    reason: RefusalReason
    stale: bool = False


AuthResult = Authenticated | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The parameters of one Authorization header; those that enter the digest are text as sent.

    `algorithm` is None where the client named none, which means MD5. `qop` None is the form of RFC 2069,
    which has no `nc` and no `cnonce`.
    """

    username: str
    realm: str
    nonce: str
    uri: str
    response: str = field(repr=False)
    algorithm: str | None = None
    qop: str | None = None
    nc: str | None = None
    cnonce: str | None = None

    @property
    def nonce_count(self) -> int | None:
        """The value of `nc`, or None in the form without qop."""
        return None if self.qop is None or self.nc is None else int(self.nc, 16)


def parse_authorization(text: str) -> Credentials:
    """Read the value of an Authorization header, leniently (RFC 3261 §20.7).

    Raises MessageError if it is not Digest, is not a list of parameters, or lacks one that the digest needs.
    """
    scheme = _SCHEME.match(text)
    if scheme is None or scheme.group(1).lower() != "digest":
        raise MessageError("the credentials are not of the Digest scheme")
    values = _read_parameters(text[scheme.end() :])
    for name in ("username", "realm", "nonce", "uri", "response"):
        if name not in values:
            raise MessageError(f"the credentials have no {name}")
    qop = values.get("qop") or None
    nc = values.get("nc")
    if qop is not None and (nc is None or not _NONCE_COUNT.fullmatch(nc) or "cnonce" not in values):
        raise MessageError("the credentials have a qop, but no good nc and cnonce")
    return Credentials(
        username=values["username"],
        realm=values["realm"],
        nonce=values["nonce"],
        uri=values["uri"],
        response=values["response"],
        algorithm=values.get("algorithm") or None,
        qop=qop,
        nc=nc,
        cnonce=values.get("cnonce"),
    )


def _read_parameters(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    text = text.rstrip(", \t\r\n")
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            raise MessageError("the credentials are not a list of parameters")
        name, quoted, plain = match.group(1).lower(), match.group(2), match.group(3)
        if name in values:
            raise MessageError("the credentials name a parameter twice")
        values[name] = plain.strip() if quoted is None else _ESCAPE.sub(r"\1", quoted)
        position = match.end()
    return values


def digest_response(
    *,
    algorithm: DigestAlgorithm,
    username: str,
    password: str,
    realm: str,
    nonce: str,
    method: str,
    uri: str,
    qop: str | None = "auth",
    nc: str = "00000001",
    cnonce: str = "",
    body: bytes = b"",
) -> str:
    """Compute the `response` of a client (RFC 7616 §3.4.1); `qop` None is the form of RFC 2069."""
    credentials = Credentials(
        username=username, realm=realm, nonce=nonce, uri=uri, response="", qop=qop, nc=nc, cnonce=cnonce
    )
    return _response(algorithm, _ha1(algorithm, username, realm, password), credentials, method, body)


def _hexdigest(algorithm: DigestAlgorithm, text: str) -> str:
    return _HASHES[algorithm](text.encode(errors="surrogatepass")).hexdigest()


def _ha1(algorithm: DigestAlgorithm, username: str, realm: str, password: str) -> str:
    return _hexdigest(algorithm, f"{username}:{realm}:{password}")


def _response(algorithm: DigestAlgorithm, ha1: str, credentials: Credentials, method: str, body: bytes) -> str:
    a2 = f"{method}:{credentials.uri}"
    if credentials.qop is None:
        return _hexdigest(algorithm, f"{ha1}:{credentials.nonce}:{_hexdigest(algorithm, a2)}")
    if credentials.qop.lower() == "auth-int":
        a2 += f":{_HASHES[algorithm](body).hexdigest()}"
    return _hexdigest(
        algorithm,
        f"{ha1}:{credentials.nonce}:{credentials.nc}:{credentials.cnonce}:{credentials.qop}:"
        f"{_hexdigest(algorithm, a2)}",
    )


class DigestAuthenticator:
    """Challenges callers and judges their answers.

    `now` is always seconds of a monotonic clock. `users` maps names to passwords. `algorithms` are offered in
    this order, the preferred one first (RFC 8760 §2.3). `secret` signs the nonces and must be drawn anew at
    every start, because what was used up before is forgotten. `nonce_ttl_s` is how long a nonce serves. At
    most `max_nonces` used nonces are remembered: one more makes the oldest expire early. `allow_legacy_qop`
    admits clients that send no qop (RFC 2069), with one request per nonce. `check_uri` demands that the
    digest was made for the Request-URI; a proxy that rewrites it on the way is the reason to turn this off.
    """

    def __init__(
        self,
        *,
        realm: str,
        users: Mapping[str, str],
        algorithms: Sequence[DigestAlgorithm],
        secret: bytes,
        nonce_ttl_s: float = 60,
        allow_legacy_qop: bool = True,
        check_uri: bool = True,
        max_nonces: int = 10_000,
        random_hex: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        if not algorithms:
            raise ValueError("digest authentication needs at least one algorithm")
        self._realm = realm
        self._algorithms = tuple(dict.fromkeys(algorithms))
        self._secret = secret
        self._nonce_ttl_s = nonce_ttl_s
        self._allow_legacy_qop = allow_legacy_qop
        self._check_uri = check_uri
        self._random_hex = random_hex
        self._used_nonces = _UsedNonces(max_nonces)
        self._ha1s = {
            algorithm: {user: _ha1(algorithm, user, realm, password) for user, password in users.items()}
            for algorithm in self._algorithms
        }
        # What the answer of an unknown user is compared with: nobody can know it.
        self._nobodys_ha1s = {algorithm: _hexdigest(algorithm, self._sign("nobody")) for algorithm in self._algorithms}

    def challenge(self, now: float, *, stale: bool = False) -> tuple[tuple[str, str], ...]:
        """Return the WWW-Authenticate headers of a 401, one per algorithm."""
        seed = f"{_milliseconds(now):012x}{self._random_hex(10)}"
        nonce = seed + self._sign(seed)
        realm = self._realm.replace("\\", "\\\\").replace('"', '\\"')
        suffix = ", stale=true" if stale else ""
        return tuple(
            (
                "WWW-Authenticate",
                f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}, qop="auth"{suffix}',
            )
            for algorithm in self._algorithms
        )

    def verify(
        self, authorization: Sequence[str], *, method: str, request_uri: str, now: float, body: bytes = b""
    ) -> AuthResult:
        """Judge the Authorization headers of a request.

        The digest is checked before the nonce, so that only who knows a password can use up a nonce.
        """
        candidate = self._select(authorization)
        if isinstance(candidate, RefusalReason):
            return Refused(reason=candidate)
        credentials, algorithm = candidate
        # From here to the verdict an unknown user costs the same as a known one with a wrong password.
        ha1s = self._ha1s[algorithm]
        ha1 = ha1s.get(credentials.username, self._nobodys_ha1s[algorithm])
        expected = _response(algorithm, ha1, credentials, method, body)
        answered = credentials.response.lower().encode(errors="surrogatepass")
        if not hmac.compare_digest(expected.encode(), answered) or credentials.username not in ha1s:
            return Refused(reason=RefusalReason.WRONG_CREDENTIALS)
        if self._check_uri and not _same_target(credentials.uri, request_uri):
            return Refused(reason=RefusalReason.WRONG_URI)
        reason = self._use_nonce(credentials, now)
        if reason is not None:
            return Refused(reason=reason, stale=True)
        return Authenticated(user=credentials.username)

    def _select(self, authorization: Sequence[str]) -> tuple[Credentials, DigestAlgorithm] | RefusalReason:
        """Pick the credentials meant for us, with their algorithm, or say why there are none."""
        readable = []
        for text in authorization:
            with suppress(MessageError):
                readable.append(parse_authorization(text))
        ours = [credentials for credentials in readable if credentials.realm == self._realm]
        if not ours:
            if readable:
                return RefusalReason.WRONG_REALM
            return RefusalReason.MALFORMED if authorization else RefusalReason.NO_CREDENTIALS
        for credentials in ours:
            name = (credentials.algorithm or DigestAlgorithm.MD5).upper()
            if name in self._algorithms:
                if not self._takes_qop(credentials.qop):
                    return RefusalReason.UNSUPPORTED_QOP
                return credentials, DigestAlgorithm(name)
        return RefusalReason.UNSUPPORTED_ALGORITHM

    def _takes_qop(self, qop: str | None) -> bool:
        """Tell whether the form of digest is acceptable; auth-int, never offered, proves more than auth."""
        return self._allow_legacy_qop if qop is None else qop.lower() in {"auth", "auth-int"}

    def _use_nonce(self, credentials: Credentials, now: float) -> RefusalReason | None:
        match = _NONCE.fullmatch(credentials.nonce)
        if match is None or not hmac.compare_digest(self._sign(match[1] + match[2]), match[3]):
            return RefusalReason.UNKNOWN_NONCE
        issued_ms = int(match[1], 16)
        self._used_nonces.expire(_milliseconds(now - self._nonce_ttl_s))
        if not self._used_nonces.oldest_ms <= issued_ms <= _milliseconds(now):
            return RefusalReason.STALE_NONCE
        if not self._used_nonces.use(credentials.nonce, issued_ms, credentials.nonce_count):
            return RefusalReason.REPLAYED
        return None

    def _sign(self, text: str) -> str:
        # The realm is signed along: another realm's nonce is not ours even under the same secret.
        return hmac.new(self._secret, f"{text}:{self._realm}".encode(), hashlib.sha256).hexdigest()[:32]


def parse_basic(text: str) -> tuple[str, str]:
    """Return user and password of Basic credentials (RFC 7617); raises MessageError if they are no such."""
    scheme, _, encoded = text.strip().partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError as error:
        raise MessageError("the credentials are no base64 of UTF-8") from error
    if scheme.lower() != "basic" or not colon:
        raise MessageError("the credentials are not of the Basic scheme")
    return user, password


class BasicAuthenticator:
    """Judges the Basic credentials (RFC 7617) of callers by WebSocket, with the interface of `DigestAuthenticator`.

    SIP itself does not have them any more (RFC 3261 §22). `users` maps names to passwords.
    """

    def __init__(self, *, realm: str, users: Mapping[str, str]) -> None:
        self._realm = realm
        self._users = {user: password.encode() for user, password in users.items()}
        self._nobody = secrets.token_bytes(32)

    def challenge(self, now: float, *, stale: bool = False) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """Return the WWW-Authenticate header of a 401."""
        return (("WWW-Authenticate", f'Basic realm="{self._realm}", charset="UTF-8"'),)

    def verify(
        self,
        authorization: Sequence[str],
        *,
        method: str,  # noqa: ARG002
        request_uri: str,  # noqa: ARG002
        now: float,  # noqa: ARG002
        body: bytes = b"",  # noqa: ARG002
    ) -> AuthResult:
        """Judge the values of the Authorization headers."""
        if not authorization:
            return Refused(reason=RefusalReason.NO_CREDENTIALS)
        try:
            user, password = parse_basic(authorization[0])
        except MessageError:
            return Refused(reason=RefusalReason.MALFORMED)
        known = self._users.get(user, self._nobody)
        if hmac.compare_digest(password.encode(), known):
            return Authenticated(user=user)
        return Refused(reason=RefusalReason.WRONG_CREDENTIALS)


class _UsedNonces:
    """Which nonce counts were used (RFC 7616 §3.4), of at most `capacity` nonces.

    Of each nonce it keeps the highest count and, as the bits of a mask, which of the counts just below were
    seen. A nonce issued before `oldest_ms` has to be refused: nothing is known of it any more.
    """

    def __init__(self, capacity: int) -> None:
        self.oldest_ms = 0
        self._capacity = capacity
        self._counts: dict[str, tuple[int, int]] = {}
        self._by_age: list[tuple[int, str]] = []

    def expire(self, oldest_ms: int) -> None:
        """Forget the nonces issued before `oldest_ms`."""
        self.oldest_ms = max(self.oldest_ms, oldest_ms)
        while self._by_age and self._by_age[0][0] < self.oldest_ms:
            del self._counts[heapq.heappop(self._by_age)[1]]

    def use(self, nonce: str, issued_ms: int, count: int | None) -> bool:
        """Use up one count, or the whole nonce where there is no count; False if that was done before."""
        highest, seen = self._counts.get(nonce, (-1, 0))
        if highest < 0:
            heapq.heappush(self._by_age, (issued_ms, nonce))
            self._counts[nonce] = (_EXHAUSTED, -1) if count is None else (count, 1)
            if len(self._counts) > self._capacity:
                self.expire(self._by_age[0][0] + 1)
            return True
        if count is None:
            return False
        if count > highest:
            seen = (seen << min(count - highest, _REORDERING_WINDOW)) & (2**_REORDERING_WINDOW - 1) | 1
            self._counts[nonce] = (count, seen)
            return True
        behind = highest - count
        if behind >= _REORDERING_WINDOW or seen >> behind & 1:
            return False
        self._counts[nonce] = (highest, seen | 1 << behind)
        return True


def _same_target(digest_uri: str, request_uri: str) -> bool:
    """Compare leniently: what one URI leaves out agrees with anything, what both have must be equal."""
    if digest_uri == request_uri:
        return True
    try:
        one, other = SipUri.parse(digest_uri.strip()), SipUri.parse(request_uri.strip())
    except MessageError:
        return False
    if one.scheme != other.scheme or one.scheme not in {"sip", "sips", "tel"}:
        return False
    if one.scheme == "tel":
        return _VISUAL_SEPARATORS.sub("", one.user) == _VISUAL_SEPARATORS.sub("", other.user)
    parameters = dict(other.parameters)
    return (
        one.host.lower() == other.host.lower()
        and (one.user == other.user or not one.user or not other.user)
        and (one.port == other.port or one.port is None or other.port is None)
        and all(parameters.get(name, value).lower() == value.lower() for name, value in one.parameters)
    )


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000))
