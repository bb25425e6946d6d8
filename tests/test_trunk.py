"""Trunks: as whom, by which URI and header fields a number is called, and whether it may be."""

from typing import Any

import pytest

from sip_agent.config import AccountSettings, OutboundSettings, Settings
from sip_agent.errors import SettingsError
from sip_agent.headers import CorrelationIds
from sip_agent.trunk import Trunk, check_number, check_reach, find_trunk

CALLER_ID = "+14155550100"
NUMBER = "+14155550123"


def account(**values: Any) -> dict[str, Any]:
    """Return the settings of an account that can place calls."""
    return {
        "name": "trunk",
        "registrar": "sip:pbx.example.com:5070",
        "username": "1001",
        "caller_id": CALLER_ID,
    } | values


def trunk(**values: Any) -> Trunk:
    """Return a trunk."""
    return Trunk(account=AccountSettings.model_validate(account(**values)))


def settings(*accounts: dict[str, Any], **values: Any) -> Settings:
    """Return settings with these accounts."""
    return Settings.model_validate({"accounts": accounts, **values})


class TestCaller:
    """As whom a trunk calls."""

    def test_without_password(self) -> None:
        """A trunk that knows us by our address is given no credentials."""
        caller = trunk().caller

        assert (f"sip:{CALLER_ID}@pbx.example.com", "", "", "*") == (
            caller.uri,
            caller.username,
            caller.password,
            caller.realm,
        )

    def test_with_password(self) -> None:
        """Digest goes by auth_username, where there is one, and for the realm that is named."""
        caller = trunk(password="pw", auth_username="a1", realm="pbx", outbound_proxy="sip:edge.example.com").caller

        assert ("a1", "pw", "pbx", "sip:edge.example.com") == (
            caller.username,
            caller.password,
            caller.realm,
            caller.proxy,
        )
        assert "pw" not in repr(caller)

    @pytest.mark.parametrize(
        ("caller_id_in", "more", "from_uri", "asserted"),
        [
            ("from", {}, CALLER_ID, False),
            ("both", {}, CALLER_ID, True),
            ("p-asserted-identity", {}, "1001", True),
            ("p-asserted-identity", {"from_uri": "sip:office@pbx.example.com"}, "office", True),
        ],
    )
    def test_where_the_caller_id_stands(
        self, caller_id_in: str, more: dict[str, str], from_uri: str, *, asserted: bool
    ) -> None:
        """From or P-Asserted-Identity carry the number, or both of them."""
        found = trunk(caller_id_in=caller_id_in, **more)

        assert f"sip:{from_uri}@pbx.example.com" == found.caller.uri
        wanted = [("P-Asserted-Identity", f"<sip:{CALLER_ID}@pbx.example.com>")] if asserted else []
        assert wanted == list(found.headers)


class TestUri:
    """By which URI a number is called."""

    @pytest.mark.parametrize(
        ("values", "uri"),
        [
            ({}, f"sip:{NUMBER}@pbx.example.com:5070;user=phone"),
            ({"registrar": "sips:[2001:db8::1]"}, f"sips:{NUMBER}@[2001:db8::1];user=phone"),
            (
                {"registrar": "sip:pbx.example.com;transport=tcp"},
                f"sip:{NUMBER}@pbx.example.com;transport=tcp;user=phone",
            ),
            ({"dial": "sip:{number}@gw.example.com"}, f"sip:{NUMBER}@gw.example.com"),
            ({"dial": "sip:9{digits}@gw.example.com:5080"}, f"sip:9{NUMBER[1:]}@gw.example.com:5080"),
        ],
    )
    def test_uri(self, values: dict[str, str], uri: str) -> None:
        """A number is called at the registrar, or where `dial` says."""
        assert uri == trunk(**values).uri(NUMBER)

    @pytest.mark.parametrize("dial", ["sip:trunk.example.com", "sip:{numbre}@x", "{number}", "sip:{number}{digits}@x"])
    def test_a_wrong_pattern(self, dial: str) -> None:
        """A pattern without the number, or that makes no URI, is refused."""
        with pytest.raises(ValueError, match=r"write (\{number\}|a SIP URI)"):
            trunk(dial=dial)

    def test_outgoing(self) -> None:
        """The call has all of it, and the ids of its run."""
        ids = CorrelationIds(run_id="1")
        found = trunk()
        outgoing = found.outgoing(NUMBER, ids, 30)

        assert (found.uri(NUMBER), found.caller, found.headers, "trunk", ids, 30) == (
            outgoing.uri,
            outgoing.caller,
            outgoing.headers,
            outgoing.account,
            outgoing.ids,
            outgoing.ring_timeout_s,
        )


class TestFinding:
    """Which account calls go through."""

    def test_the_only_one(self) -> None:
        """The only account with a caller id is taken, whatever others there are."""
        found = find_trunk(settings(account(name="desk", caller_id=""), account()))

        assert "trunk" == found.name

    def test_by_name(self) -> None:
        """The name that is given goes before the setting."""
        two = settings(account(), account(name="second"), outbound={"account": "second"})

        assert "second" == find_trunk(two).name
        assert "trunk" == find_trunk(two, "trunk").name

    @pytest.mark.parametrize(
        ("accounts", "name", "message"),
        [
            ([], "", r"accounts: none has a caller_id, so no call can be placed"),
            ([account(), account(name="b")], "", r"outbound\.account: several accounts have a caller_id \(trunk, b\)"),
            ([account()], "c", r"accounts: there is no account 'c' \(there is: trunk\)"),
            ([account(caller_id="")], "trunk", r"accounts: 'trunk' has no caller_id"),
        ],
    )
    def test_none(self, accounts: list[dict[str, Any]], name: str, message: str) -> None:
        """Where it is not clear which one is meant, the message says what to write."""
        with pytest.raises(SettingsError, match=message):
            find_trunk(settings(*accounts), name)

    def test_out_of_reach(self) -> None:
        """An agent on loopback reaches no trunk elsewhere."""
        allow = {"admission": {"allow": ["10.0.0.0/8"]}}
        check_reach(trunk(), settings(sip={"bind": ["127.0.0.1", "10.0.0.5"]}, **allow))
        check_reach(trunk(registrar="sip:localhost"), settings())
        check_reach(trunk(outbound_proxy="sip:127.0.0.1:5070"), settings())
        with pytest.raises(SettingsError, match=r"sip\.bind: 127\.0\.0\.1 cannot reach the account 'trunk' at pbx\.ex"):
            check_reach(trunk(), settings())


@pytest.mark.parametrize("allow", [["+1415"], ["+44", "+1"], ["+1 415-555"]])
def test_a_number_that_may_be_dialled(allow: list[str]) -> None:
    """A number that begins like one of the allow-list may be dialled."""
    assert NUMBER == check_number("+1 415 555 0123", OutboundSettings.model_validate({"allow": allow}))


@pytest.mark.parametrize("allow", ["1415", "+", "", "+0", "+1a"])
def test_a_wrong_prefix(allow: str) -> None:
    """What is no beginning of a number is refused: nothing that lets every number through by mistake."""
    with pytest.raises(ValueError, match="write how numbers may begin"):
        OutboundSettings.model_validate({"allow": [allow]})


def test_a_wrong_caller_id() -> None:
    """A caller id without country code is refused."""
    with pytest.raises(ValueError, match=r"write the number with \+ and country code"):
        trunk(caller_id="4155550100")
