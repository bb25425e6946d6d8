"""Kamailio as the registrar: digest for REGISTER, location in memory, and calls passed on to who is registered."""

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.calls.agent_process import eventually
from tests.ports import free_port
from tests.processes import end

# The registrar's only users; Debian's Kamailio computes HA1 from a clear password.
PASSWORD = "trunk-password"
USERS = ("1001", "1002")

_CORE = """\
#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:127.0.0.1:{port}
mpath="{modules}"
loadmodule "pv.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "auth.so"
loadmodule "xlog.so"
modparam("auth", "nonce_expire", 30)
"""

_REGISTRAR = """\
listen=udp:127.0.0.1:{outside_port}
mhomed=0
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 1)
modparam("registrar", "max_expires", {max_expires})
modparam("registrar", "default_expires", {max_expires})

request_route {{
    if (is_method("REGISTER")) {{
        if (!pv_auth_check("127.0.0.1", "{password}", "0", "1")) {{
            xlog("L_NOTICE", "CHALLENGED $fU\\n");
            auth_challenge("127.0.0.1", "1");
            exit;
        }}
        xlog("L_NOTICE", "REGISTERED $fU expires $hdr(Expires)\\n");
        save("location");
        exit;
    }}
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (has_totag()) {{
        loose_route();
        t_relay();
        exit;
    }}
    if (is_method("CANCEL")) {{
        t_relay();
        exit;
    }}
    if (is_method("INVITE")) {{
        record_route();
    }}
    if (!lookup("location")) {{
        sl_send_reply("404", "Not Registered");
        exit;
    }}
    t_relay();
}}
"""


class Kamailio:
    """A registrar that can be stopped and started again on the same port; leaving the context ends it.

    By a `config` of its own, which comes after the core's and is filled with `values`, it is something else.
    """

    def __init__(self, folder: Path, *, max_expires: int = 3600, config: str = _REGISTRAR, **values: Any) -> None:
        assert shutil.which("kamailio"), "Kamailio is not installed: apt-get install kamailio"
        self._folder = folder
        self.port = free_port(socket.SOCK_DGRAM)
        modules = next(path.parent for path in Path("/usr/lib").glob("**/kamailio/modules/usrloc.so"))
        config = (_CORE + config).format(
            port=self.port,
            outside_port=free_port(socket.SOCK_DGRAM),
            modules=modules,
            password=PASSWORD,
            max_expires=max_expires,
            **values,
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kamailio.cfg").write_text(config, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it listens."""
        command = ["kamailio", "-DD", "-E", "-m", "64", "-M", "8", "-f", "kamailio.cfg", "-Y", str(self._folder)]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        eventually(self._answers, f"answer of Kamailio, see {self._log_file}")
        return self

    def stop(self) -> None:
        """End it: what was registered is forgotten."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def count(self, what: str, user: str = "1001") -> int:
        """Return how often it wrote `what` about `user`: CHALLENGED or REGISTERED."""
        return self.log_text.count(f"{what} {user}")

    @property
    def log_text(self) -> str:
        """What it wrote."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def _log_file(self) -> Path:
        return self._folder / "kamailio.log"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log_file.read_text(encoding="utf-8", errors="replace")
        ping = (
            f"OPTIONS sip:ping@127.0.0.1:{self.port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKping;rport\r\n"
            "From: <sip:ping@127.0.0.1>;tag=1\r\nTo: <sip:ping@127.0.0.1>\r\nCall-ID: ping\r\nCSeq: 1 OPTIONS\r\n"
            "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            probe.sendto(ping.encode(), ("127.0.0.1", self.port))
            try:
                return bool(probe.recv(4096))
            except OSError:
                return False
