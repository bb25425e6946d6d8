"""Digest authentication: who gets in, who does not, and what each is told."""

import base64
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.auth import (
    Authenticated,
    AuthResult,
    BasicAuthenticator,
    Credentials,
    DigestAlgorithm,
    DigestAuthenticator,
    RefusalReason,
    Refused,
    digest_response,
    parse_authorization,
)
from sip_agent.errors import MessageError

MD5, SHA_256, SHA_512_256 = DigestAlgorithm

NOW = 1000.0
TARGET = "sip:agent@example.com"
PIECES = [
    *'"\\,= \t\n',
    "Digest ",
    "username=",
    "realm=",
    "nonce=",
    "uri=",
    "response=",
    "qop=auth",
    "nc=1",
    "é",
]
ACCEPTED = Authenticated(user="cekura")
WRONG = Refused(reason=RefusalReason.WRONG_CREDENTIALS)
REPLAYED = Refused(reason=RefusalReason.REPLAYED, stale=True)
STALE = Refused(reason=RefusalReason.STALE_NONCE, stale=True)


def authenticator(
    *,
    algorithms: Sequence[DigestAlgorithm] = (MD5, SHA_256),
    secret: bytes = b"drawn at the start",
    allow_legacy_qop: bool = True,
    check_uri: bool = True,
    max_nonces: int = 10_000,
) -> DigestAuthenticator:
    """Return an authenticator with one user."""
    return DigestAuthenticator(
        realm="sip-agent",
        users={"cekura": "secret"},
        algorithms=algorithms,
        secret=secret,
        nonce_ttl_s=60,
        allow_legacy_qop=allow_legacy_qop,
        check_uri=check_uri,
        max_nonces=max_nonces,
    )


def nonce_from(challenger: DigestAuthenticator, now: float = NOW) -> str:
    """Return the nonce of a fresh challenge."""
    match = re.search(r'nonce="([^"]+)"', challenger.challenge(now)[0][1])
    assert match is not None
    return match.group(1)


def answer(
    nonce: str,
    *,
    user: str = "cekura",
    password: str = "secret",
    uri: str = TARGET,
    algorithm: DigestAlgorithm = MD5,
    qop: str | None = "auth",
    nc: str = "00000001",
    realm: str = "sip-agent",
    method: str = "INVITE",
    body: bytes = b"",
) -> str:
    """Return the Authorization value with which a client answers a challenge."""
    response = digest_response(
        algorithm=algorithm,
        username=user,
        password=password,
        realm=realm,
        nonce=nonce,
        method=method,
        uri=uri,
        qop=qop,
        nc=nc,
        cnonce="0a4f113b",
        body=body,
    )
    quoted_user = user.replace("\\", "\\\\").replace('"', '\\"')
    text = (
        f'Digest username="{quoted_user}", realm="{realm}", nonce="{nonce}", uri="{uri}", '
        f'response="{response}", algorithm={algorithm}'
    )
    return text if qop is None else f'{text}, qop={qop}, nc={nc}, cnonce="0a4f113b"'


def verify(
    judge: DigestAuthenticator,
    *authorization: str,
    now: float = NOW,
    request_uri: str = TARGET,
    body: bytes = b"",
) -> AuthResult:
    """Judge the answer to an INVITE."""
    return judge.verify(authorization, method="INVITE", request_uri=request_uri, now=now, body=body)


class TestDigestResponse:
    """The digest itself."""

    @pytest.mark.parametrize(
        ("algorithm", "expected"),
        [
            (MD5, "8ca523f5e9506fed4657c9700eebdbec"),
            (SHA_256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ],
    )
    def test_rfc_7616(self, algorithm: DigestAlgorithm, expected: str) -> None:
        """The examples of RFC 7616 §3.9.1 come out."""
        response = digest_response(
            algorithm=algorithm,
            username="Mufasa",
            password="Circle of Life",
            realm="http-auth@example.org",
            nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            method="GET",
            uri="/dir/index.html",
            cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        )

        assert expected == response

    @pytest.mark.parametrize(
        ("qop", "body", "expected"),
        [
            ("auth", b"", "6629fae49393a05397450978507c4ef1"),
            (None, b"", "670fd8c2df070c60b045671b8b24ff02"),
        ],
    )
    def test_rfc_2617(self, qop: str | None, body: bytes, expected: str) -> None:
        """The example of RFC 2617 §3.5 comes out, and so does its form without qop (RFC 2069)."""
        response = digest_response(
            algorithm=MD5,
            username="Mufasa",
            password="Circle Of Life",
            realm="testrealm@host.com",
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
            method="GET",
            uri="/dir/index.html",
            qop=qop,
            cnonce="0a4f113b",
            body=body,
        )

        assert expected == response


class TestParseAuthorization:
    """Reading what clients send."""

    expected = Credentials(username="u", realm="r", nonce="n=", uri="a", response="f", qop="auth", nc="1", cnonce="c")

    @pytest.mark.parametrize(
        "text",
        [
            'Digest username="u",realm="r",nonce="n=",uri="a",response="f",qop=auth,nc=1,cnonce="c"',
            'DIGEST Username="u", REALM="r", nonce="n=", Uri="a", response="f", qop="auth", NC=1, cnonce=c',
            "digest username=u, realm=r, nonce=n=, uri=a, response=f, qop=auth, nc=1, cnonce=c",
            'Digest\t,, username = "u" ,realm= r,,nonce ="n=",uri=a, response=f,qop=auth,nc="1",cnonce=c ,',
            'Digest x="a, b=\\"", username=u, realm=r, nonce=n=, uri=a, response=f, qop=auth, nc=1, cnonce=c',
        ],
    )
    def test_spellings(self, text: str) -> None:
        """Letter case, quotes, spaces, empty elements and unknown parameters make no difference."""
        assert self.expected == parse_authorization(text)

    @pytest.mark.parametrize(
        ("sent", "username"),
        [(r"a\"b", 'a"b'), (r"a\\b", r"a\b"), (r"DOMAIN\user", r"DOMAIN\user"), ("a,b=c", "a,b=c"), ("", "")],
    )
    def test_quoted_strings(self, sent: str, username: str) -> None:
        """Escaped quotes and backslashes are unescaped; a backslash that a client forgot to escape stays."""
        credentials = parse_authorization(f'Digest username="{sent}", realm=r, nonce=n, uri=u, response=x')

        assert username == credentials.username

    def test_nonce_count(self) -> None:
        """The nonce count is hexadecimal, and means nothing without qop."""
        text = "Digest username=u, realm=r, nonce=n, uri=u, response=x, nc=0000001f, cnonce=c"

        assert parse_authorization(f"{text}, qop=auth").nonce_count == 31
        assert parse_authorization(text).nonce_count is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Digest",
            "Basic Y2VrdXJhOnNlY3JldA==",
            "Digest username=u, realm=r, nonce=n, uri=u",
            "Digest username=u, realm=r, nonce=n, uri=u, response=x, username=v",
            "Digest username=u, realm=r, nonce=n, uri=u, response=x, qop=auth, cnonce=c",
            "Digest username=u, realm=r, nonce=n, uri=u, response=x, qop=auth, nc=1",
            "Digest username=u, realm=r, nonce=n, uri=u, response=x, qop=auth, nc=xyz, cnonce=c",
            "Digest username=u, realm=r, nonce=n, uri=u, response=x, qop=auth, nc=000000001, cnonce=c",
            'Digest username="u, realm=r, nonce=n, uri=u, response=x',
            'Digest username=u"v", realm=r, nonce=n, uri=u, response=x',
            'Digest username="u"v, realm=r, nonce=n, uri=u, response=x',
            "Digest username, realm=r, nonce=n, uri=u, response=x",
        ],
    )
    def test_malformed(self, text: str) -> None:
        """What is incomplete, ambiguous or no list of parameters is no credentials."""
        with pytest.raises(MessageError):
            parse_authorization(text)

    @given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
    def test_raises_nothing_else(self, text: str) -> None:
        """Whatever the text, it is credentials or a MessageError."""
        with suppress(MessageError):
            parse_authorization(text)

    @pytest.mark.parametrize("text", ['"' * 50_000, 'a="' + "\\" * 50_001, "a= " * 20_000, ", " * 25_000, " " * 50_000])
    def test_time_is_linear(self, text: str) -> None:
        """Text made to be slow to read is not."""
        started_at = time.process_time()
        with pytest.raises(MessageError):
            parse_authorization(f"Digest {text}")

        assert time.process_time() - started_at < 1


class TestChallenge:
    """What a caller without credentials is told."""

    def test_one_per_algorithm(self) -> None:
        """Each algorithm has its own WWW-Authenticate, in the order of preference (RFC 8760 §2.3)."""
        challenge = authenticator(algorithms=(SHA_256, MD5)).challenge(NOW)

        nonce = re.escape(re.findall(r'nonce="(\w+)"', challenge[0][1])[0])
        for (name, value), algorithm in zip(challenge, ("SHA-256", "MD5"), strict=True):
            assert name == "WWW-Authenticate"
            assert re.fullmatch(rf'Digest realm="sip-agent", nonce="{nonce}", algorithm={algorithm}, qop="auth"', value)

    def test_stale(self) -> None:
        """A stale challenge says that the password was right."""
        assert all(value.endswith(", stale=true") for _, value in authenticator().challenge(NOW, stale=True))

    def test_nonces_are_unique(self) -> None:
        """No two challenges share a nonce, even in the same instant."""
        challenger = authenticator()

        assert len({nonce_from(challenger) for _ in range(1000)}) == 1000

    def test_realm_is_quoted(self) -> None:
        """A realm may hold quotes, and the answer to it is accepted."""
        realm = 'a "quoted" \\ realm'
        judge = DigestAuthenticator(realm=realm, users={"u": "p"}, algorithms=[MD5], secret=b"s")
        ((_, challenge),) = judge.challenge(NOW)
        nonce = nonce_from(judge)
        text = answer(nonce, user="u", password="p", realm=realm)

        assert challenge.startswith(r'Digest realm="a \"quoted\" \\ realm", ')
        escaped = realm.replace("\\", "\\\\").replace('"', '\\"')
        assert Authenticated(user="u") == verify(judge, text.replace(f'"{realm}"', f'"{escaped}"'))

    def test_needs_an_algorithm(self) -> None:
        """Without an algorithm there is nothing to challenge with."""
        with pytest.raises(ValueError, match="at least one algorithm"):
            authenticator(algorithms=())


class TestVerify:
    """The verdict."""

    @pytest.mark.parametrize("qop", ["auth", "auth-int", None])
    @pytest.mark.parametrize("algorithm", list(DigestAlgorithm))
    def test_right_password(self, algorithm: DigestAlgorithm, qop: str | None) -> None:
        """The right password opens, with every algorithm and in every form."""
        judge = authenticator(algorithms=list(DigestAlgorithm))
        text = answer(nonce_from(judge), algorithm=algorithm, qop=qop, body=b"v=0")

        assert verify(judge, text, body=b"v=0") == ACCEPTED

    @given(st.text(), st.text(), st.sampled_from([MD5, SHA_256]), st.sampled_from(["auth", None]))
    def test_round_trip(self, user: str, password: str, algorithm: DigestAlgorithm, qop: str | None) -> None:
        """Any name with any password gets in with that password, and with no other."""
        judge = DigestAuthenticator(realm="sip-agent", users={user: password}, algorithms=[MD5, SHA_256], secret=b"s")
        nonce = nonce_from(judge)
        right = answer(nonce, user=user, password=password, algorithm=algorithm, qop=qop)
        wrong = answer(nonce, user=user, password=f"{password}!", algorithm=algorithm, qop=qop)

        assert verify(judge, wrong) == WRONG
        assert verify(judge, right) == Authenticated(user=user)

    def test_no_algorithm_means_md5(self) -> None:
        """Credentials that name no algorithm are MD5, and refused where MD5 is not offered."""
        judge, strict = authenticator(), authenticator(algorithms=[SHA_256])
        lenient_answer = answer(nonce_from(judge)).replace(", algorithm=MD5", "")
        strict_answer = answer(nonce_from(strict)).replace(", algorithm=MD5", "")

        assert verify(judge, lenient_answer) == ACCEPTED
        assert verify(strict, strict_answer) == Refused(reason=RefusalReason.UNSUPPORTED_ALGORITHM)

    def test_letter_case(self) -> None:
        """Scheme, algorithm and the digits of the response may be in any letter case."""
        judge = authenticator()
        text = answer(nonce_from(judge), algorithm=SHA_256)
        shouted = re.sub(r'response="(\w+)"', lambda match: match.group().upper(), text)

        assert verify(judge, shouted.replace("Digest", "DIGEST").replace("SHA-256", "sha-256")) == ACCEPTED

    def test_user_and_password_cannot_be_told_apart(self) -> None:
        """An unknown user and a wrong password get the same answer: a scanner learns no names."""
        judge = authenticator()
        nonce = nonce_from(judge)

        assert verify(judge, answer(nonce, user="nobody")) == WRONG
        assert verify(judge, answer(nonce, password="guess")) == WRONG

    @pytest.mark.parametrize(
        "user", ["", "cekura:sip-agent", "'; DROP TABLE calls; --", "\x00", "Ω" * 10_000, "CEKURA"]
    )
    def test_harmless_names(self, user: str) -> None:
        """A user name may be anything, and is then merely unknown."""
        judge = authenticator()

        assert verify(judge, answer(nonce_from(judge), user=user)) == WRONG

    @pytest.mark.parametrize("response", ["", "ä", "0" * 32, "0" * 100_000])
    def test_harmless_responses(self, response: str) -> None:
        """A response may be anything, and is then merely wrong."""
        judge = authenticator()
        text = re.sub(r'response="\w+"', f'response="{response}"', answer(nonce_from(judge)))

        assert verify(judge, text) == WRONG

    def test_changed_request(self) -> None:
        """The digest covers method, URI and, with auth-int, the body."""
        judge = authenticator()
        nonce = nonce_from(judge)

        assert verify(judge, answer(nonce, method="REGISTER")) == WRONG
        assert verify(judge, answer(nonce).replace(TARGET, "sip:other@example.com")) == WRONG
        assert verify(judge, answer(nonce, qop="auth-int", body=b"v=0"), body=b"v=1") == WRONG

    def test_among_several(self) -> None:
        """Of several credentials those for our realm count, also beside some that cannot be read."""
        judge = authenticator()
        nonce = nonce_from(judge)
        others = ["Basic abc", answer("their-nonce", realm="proxy"), answer(nonce).replace("MD5", "MD5-sess")]

        assert verify(judge, *others, answer(nonce)) == ACCEPTED

    @pytest.mark.parametrize(
        ("authorization", "reason"),
        [
            ([], RefusalReason.NO_CREDENTIALS),
            (["Basic abc", ""], RefusalReason.MALFORMED),
            ([answer("n", realm="other")], RefusalReason.WRONG_REALM),
            ([answer("n").replace("MD5", "MD5-sess")], RefusalReason.UNSUPPORTED_ALGORITHM),
            ([answer("n").replace("MD5", "SHA-512-256")], RefusalReason.UNSUPPORTED_ALGORITHM),
            ([answer("n", qop="token")], RefusalReason.UNSUPPORTED_QOP),
        ],
    )
    def test_refused_unread(self, authorization: list[str], reason: RefusalReason) -> None:
        """What cannot be checked is refused with the reason, and never as stale."""
        assert Refused(reason=reason) == verify(authenticator(), *authorization)

    def test_legacy_form_can_be_forbidden(self) -> None:
        """Without qop there is no nonce count: who does not want that form can refuse it."""
        judge = authenticator(allow_legacy_qop=False)

        assert verify(judge, answer(nonce_from(judge), qop=None)) == Refused(reason=RefusalReason.UNSUPPORTED_QOP)


class TestUri:
    """The digest's URI against the Request-URI."""

    @pytest.mark.parametrize(
        "uri",
        [
            "sip:agent@example.com:5060;transport=tcp",
            "sip:agent@example.com",
            "SIP:agent@EXAMPLE.com;transport=TCP",
            "sip:example.com",
            "sip:%61gent@example.com:5060;lr",
        ],
    )
    def test_agrees(self, uri: str) -> None:
        """What one of the two leaves out, and letter case where it means nothing, make no difference."""
        judge = authenticator()

        assert (
            verify(
                judge,
                answer(nonce_from(judge), uri=uri),
                request_uri="sip:agent@example.com:5060;transport=tcp",
            )
            == ACCEPTED
        )

    @pytest.mark.parametrize(
        "uri",
        [
            "sip:other@example.com",
            "sip:agent@example.org",
            "sip:agent@example.com:5080",
            "sip:agent@example.com;transport=udp",
            "sips:agent@example.com",
            "tel:agent",
            "agent",
            "",
        ],
    )
    def test_differs(self, uri: str) -> None:
        """Credentials made for another target are refused, unless a proxy is known to rewrite it."""
        request_uri = "sip:agent@example.com:5060;transport=tcp"
        judge, lenient = authenticator(), authenticator(check_uri=False)
        wrong_uri = verify(judge, answer(nonce_from(judge), uri=uri), request_uri=request_uri)
        ignored = verify(lenient, answer(nonce_from(lenient), uri=uri), request_uri=request_uri)

        assert wrong_uri == Refused(reason=RefusalReason.WRONG_URI)
        assert ignored == ACCEPTED

    def test_telephone_numbers(self) -> None:
        """The visual separators of a tel URI mean nothing (RFC 3966 §4)."""
        judge = authenticator()
        text = answer(nonce_from(judge), uri="tel:+1-201-555-0123;phone-context=x")

        assert verify(judge, text, request_uri="tel:+1(201)5550123") == ACCEPTED

    def test_same_text(self) -> None:
        """Equal text agrees, whatever it is."""
        judge = authenticator()

        assert verify(judge, answer(nonce_from(judge), uri="urn:x"), request_uri="urn:x") == ACCEPTED


class TestNonce:
    """Age, origin and reuse of nonces."""

    def test_age(self) -> None:
        """A nonce serves for its time to live and not longer; then only the right password learns `stale`."""
        judge = authenticator()
        nonce = nonce_from(judge)

        assert verify(judge, answer(nonce, password="guess"), now=NOW + 61) == WRONG
        assert verify(judge, answer(nonce), now=NOW + 60) == ACCEPTED
        assert verify(judge, answer(nonce, nc="2"), now=NOW + 60.1) == STALE

    def test_from_the_future(self) -> None:
        """A nonce that is yet to be issued is not accepted."""
        judge = authenticator()

        assert verify(judge, answer(nonce_from(judge, now=NOW + 10))) == STALE

    @pytest.mark.parametrize(
        "forge", [str.upper, lambda nonce: nonce + "0", lambda nonce: "f" + nonce[1:], lambda _: ""]
    )
    def test_not_ours(self, forge: Callable[[str], str]) -> None:
        """A nonce of other origin or spelling never opens; the right password may try with a new one."""
        judge = authenticator()
        unknown = Refused(reason=RefusalReason.UNKNOWN_NONCE, stale=True)
        forged = forge(nonce_from(judge))

        assert verify(judge, answer(forged)) == unknown
        assert verify(judge, answer(forged, password="guess")) == WRONG
        assert verify(judge, answer(nonce_from(authenticator(secret=b"of an earlier start")))) == unknown

    @pytest.mark.parametrize("qop", ["auth", None])
    def test_replay(self, qop: str | None) -> None:
        """The same credentials open once."""
        judge = authenticator()
        text = answer(nonce_from(judge), qop=qop)

        assert verify(judge, text) == ACCEPTED
        assert verify(judge, text) == REPLAYED

    def test_counting_up(self) -> None:
        """A client may go on with a nonce as long as it counts, however it writes the number."""
        judge = authenticator()
        nonce = nonce_from(judge)
        counts = ["00000001", "2", "0A", "0a", "1000", "ffffffff", "ffffffff"]

        expected = [ACCEPTED, ACCEPTED, ACCEPTED, REPLAYED, ACCEPTED, ACCEPTED, REPLAYED]
        assert expected == [verify(judge, answer(nonce, nc=nc)) for nc in counts]

    def test_reordering(self) -> None:
        """Requests may overtake each other a little, but each count opens once."""
        judge = authenticator()
        nonce = nonce_from(judge)
        counts = [40, 39, 9, 8, 39, 41, 9, 10]

        expected = [ACCEPTED, ACCEPTED, ACCEPTED, REPLAYED, REPLAYED, ACCEPTED, REPLAYED, ACCEPTED]
        assert expected == [verify(judge, answer(nonce, nc=f"{count:08x}")) for count in counts]

    @given(st.lists(st.integers(min_value=0, max_value=80)))
    def test_each_count_opens_at_most_once(self, counts: list[int]) -> None:
        """In whatever order counts come, none opens twice and a new highest one always does."""
        judge = authenticator()
        nonce = nonce_from(judge)
        opened: list[int] = []
        for count in counts:
            if verify(judge, answer(nonce, nc=f"{count:x}")) == ACCEPTED:
                opened.append(count)
            else:
                assert count <= max(opened)

        assert len(set(opened)) == len(opened)

    def test_forms_do_not_mix(self) -> None:
        """A nonce used with a count cannot be used without one, and the other way round."""
        judge = authenticator()
        counted, uncounted = nonce_from(judge), nonce_from(judge)

        assert verify(judge, answer(counted)) == ACCEPTED
        assert verify(judge, answer(counted, qop=None)) == REPLAYED
        assert verify(judge, answer(uncounted, qop=None)) == ACCEPTED
        assert verify(judge, answer(uncounted)) == REPLAYED
        assert verify(judge, answer(uncounted, nc="ffffffff")) == REPLAYED

    def test_wrong_password_uses_up_nothing(self) -> None:
        """Somebody else's failure does not spoil a nonce, nor does a wrong target."""
        judge = authenticator()
        nonce = nonce_from(judge)

        assert verify(judge, answer(nonce, password="guess")) == WRONG
        assert verify(judge, answer(nonce, uri="sip:other")) == Refused(reason=RefusalReason.WRONG_URI)
        assert verify(judge, answer(nonce)) == ACCEPTED

    def test_bounded_memory_opens_no_hole(self) -> None:
        """A nonce that had to be forgotten early is stale, and never opens a second time."""
        judge = authenticator(max_nonces=3)
        nonces = [nonce_from(judge, now=NOW + second) for second in range(5)]
        now = NOW + 5

        assert {ACCEPTED} == {verify(judge, answer(nonce), now=now) for nonce in nonces}
        expected = [STALE, STALE, REPLAYED, REPLAYED, REPLAYED]
        assert expected == [verify(judge, answer(nonce), now=now) for nonce in nonces]
        assert verify(judge, answer(nonce_from(judge, now=now)), now=now) == ACCEPTED

    def test_memory_is_freed(self) -> None:
        """Expired nonces are forgotten."""
        judge = authenticator()
        for second in range(100):
            now = NOW + 61 * second
            assert verify(judge, answer(nonce_from(judge, now=now)), now=now) == ACCEPTED

        assert len(judge._used_nonces._counts) == len(judge._used_nonces._by_age) == 1


def basic(*headers: str) -> AuthResult:
    """Return the verdict on Basic credentials."""
    authenticator = BasicAuthenticator(realm="sip-agent", users={"alice": "s3cret:x", "zoë": "ü"})
    return authenticator.verify(headers, method="INVITE", request_uri="sip:a@b", now=0.0)


def encoded(credentials: str) -> str:
    """Return credentials as a header has them."""
    return base64.b64encode(credentials.encode()).decode()


@pytest.mark.parametrize("user", ["alice:s3cret:x", "zoë:ü"])
@pytest.mark.parametrize("scheme", ["Basic", "basic"])
def test_basic_admits_who_has_the_password(scheme: str, user: str) -> None:
    """The first colon divides; both parts are UTF-8 (RFC 7617)."""
    assert Authenticated(user=user.partition(":")[0]) == basic(f"{scheme} {encoded(user)}")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), RefusalReason.NO_CREDENTIALS),
        (("Basic",), RefusalReason.MALFORMED),
        (("Basic %%%",), RefusalReason.MALFORMED),
        (("Basic /w==",), RefusalReason.MALFORMED),
        ((f"Basic {encoded('alice')}",), RefusalReason.MALFORMED),
        ((f"Digest {encoded('alice:s3cret:x')}",), RefusalReason.MALFORMED),
        ((f"Basic {encoded('alice:wrong')}",), RefusalReason.WRONG_CREDENTIALS),
        ((f"Basic {encoded('alice:')}",), RefusalReason.WRONG_CREDENTIALS),
        ((f"Basic {encoded('bob:s3cret:x')}",), RefusalReason.WRONG_CREDENTIALS),
    ],
)
def test_basic_refuses_the_rest(headers: tuple[str, ...], reason: RefusalReason) -> None:
    """Each with its reason."""
    assert Refused(reason=reason) == basic(*headers)


def test_basic_is_asked_for_by_realm() -> None:
    """With the character set that the verdict expects."""
    authenticator = BasicAuthenticator(realm="sip-agent", users={})
    assert (("WWW-Authenticate", 'Basic realm="sip-agent", charset="UTF-8"'),) == authenticator.challenge(0.0)
