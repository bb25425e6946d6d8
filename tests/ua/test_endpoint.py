"""The SIP endpoint, as far as it can be tried without a call."""

from pathlib import Path

import pytest

from sip_agent.config import load_settings
from sip_agent.errors import SettingsError
from sip_agent.ua.endpoint import Binding, Endpoint


async def test_certificate_that_is_not_there(tmp_path: Path) -> None:
    """An agent that is to serve TLS without a certificate does not start, and says which file it wants."""
    file = tmp_path / "sip-agent.toml"
    file.write_text("[sip]\ntls_port = 5061\n", encoding="utf-8")
    endpoint = Endpoint(load_settings(file), [Binding(transport="TLS", host="127.0.0.1", port=5061)], max_calls=1)

    with pytest.raises(SettingsError, match=r"sip\.tls: .*server\.pem .*sip\.tls\.certificate"):
        await endpoint.start()
