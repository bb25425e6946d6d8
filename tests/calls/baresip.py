"""baresip as an independent softphone: its own SIP stack, codecs and SRTP; controlled over its TCP console."""

import json
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import soundfile

from tests.calls.agent_process import AgentProcess, eventually
from tests.ports import free_port, free_rtp_range, give_back

TONE_HZ = 700

_CONFIG = """\
sip_listen 127.0.0.1:{sip_port}
sip_certificate {certificate}
sip_verify_server no
net_interface 127.0.0.1
audio_source ausine,{tone_hz}
ausrc_srate 48000
ausrc_channels 2
audio_player aubridge,nowhere
audio_alert aubridge,alert
rtp_ports {first}-{last}
snd_path {folder}
module_path {modules}
module g711.so
module g722.so
module opus.so
module ausine.so
module aubridge.so
module sndfile.so
module srtp.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
"""


class Baresip:
    """One softphone with one account; leaving the context ends it. It says a tone and keeps what it hears.

    `parameters` are those of its account, like `mediaenc=srtp` or `audio_codecs=opus/48000/2`.
    """

    def __init__(self, folder: Path, *parameters: str, certificate: str = "", transport: str = "udp") -> None:
        assert shutil.which("baresip"), "baresip is not installed: apt-get install baresip-core"
        self._folder = folder
        self._control_port = free_port(socket.SOCK_STREAM)
        self._events: list[dict[str, Any]] = []
        self._rest = b""
        self._transport = transport
        folder.mkdir(parents=True, exist_ok=True)
        self._rtp_ports = first, last = free_rtp_range(16)
        modules = next(path.parent for path in Path("/usr/lib").glob("**/baresip/modules/account.so"))
        config = _CONFIG.format(
            sip_port=free_port(socket.SOCK_DGRAM),
            certificate=certificate,
            tone_hz=TONE_HZ,
            first=first,
            last=last,
            folder=folder,
            modules=modules,
            control_port=self._control_port,
        )
        (folder / "config").write_text(config, encoding="utf-8")
        account = ";".join(("<sip:cekura@127.0.0.1>", "regint=0", *parameters))
        (folder / "accounts").write_text(account + "\n", encoding="utf-8")
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            ["baresip", "-f", str(folder)], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._control = eventually(self._connect, "baresip's console")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._send("quit")
        self._control.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        give_back(self._rtp_ports)

    def call(self, agent: AgentProcess, user: str = "echo") -> str:
        """Call `user`, wait until the call is established, and return its Call-ID."""
        port = {"udp": agent.udp_port, "tcp": agent.tcp_port, "tls": agent.tls_port}[self._transport]
        self._send("dial", f"sip:{user}@127.0.0.1:{port};transport={self._transport}")
        event = self.event("CALL_ESTABLISHED", "CALL_CLOSED")
        assert event["type"] == "CALL_ESTABLISHED", f"{event}, see {self._folder / 'log'}"
        call_id: str = event["id"]
        return call_id

    def dial(self, agent: AgentProcess, user: str = "echo") -> dict[str, Any]:
        """Call `user`, who will refuse, and return the event that says so."""
        self._send("dial", f"sip:{user}@127.0.0.1:{agent.udp_port}")
        return self.event("CALL_CLOSED")

    def press(self, digits: str) -> None:
        """Send DTMF as telephone-events."""
        for digit in digits:
            self._send("sndcode", digit)

    def hang_up(self) -> None:
        """End the call."""
        self._send("hangup")
        self.event("CALL_CLOSED")

    def event(self, *kinds: str) -> dict[str, Any]:
        """Return the first event of these kinds, once it has come."""

        def look() -> dict[str, Any] | None:
            self._receive()
            return next((event for event in self._events if event.get("type") in kinds), None)

        return eventually(look, f"{kinds} of baresip, see {self._folder / 'log'}")

    def heard_ms(self) -> int:
        """Return how much sound was received so far."""
        path = next(self._folder.glob("dump-*-dec.wav"), None)
        if path is None or path.stat().st_size < 100:
            return 0
        rate_hz = int.from_bytes(path.read_bytes()[24:28], "little")
        channel_count = int.from_bytes(path.read_bytes()[22:24], "little")
        return path.stat().st_size * 1000 // (2 * channel_count * rate_hz)

    def heard(self) -> tuple[npt.NDArray[np.int16], int]:
        """Return what was received, and its rate; only after the call."""
        samples, rate_hz = soundfile.read(next(self._folder.glob("dump-*-dec.wav")), dtype="int16", always_2d=True)
        return samples[:, 0], rate_hz

    def _connect(self) -> socket.socket | None:
        with suppress(ConnectionError):
            connection = socket.create_connection(("127.0.0.1", self._control_port), 1)
            connection.settimeout(0.02)
            return connection
        return None

    def _send(self, command: str, parameters: str = "") -> None:
        text = json.dumps({"command": command, "params": parameters, "token": command})
        with suppress(ConnectionError):
            self._control.sendall(f"{len(text)}:{text},".encode())

    def _receive(self) -> None:
        with suppress(TimeoutError):
            self._rest += self._control.recv(65_535)
        while b":" in self._rest:
            size, _, rest = self._rest.partition(b":")
            if len(rest) <= int(size):
                return
            self._events.append(json.loads(rest[: int(size)]))
            self._rest = rest[int(size) + 1 :]
