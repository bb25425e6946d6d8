"""What calls to phone numbers go through in the tests: Kamailio as a trunk's proxy, Asterisk as a trunk's PBX."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.calls.agent_process import eventually
from tests.calls.kamailio import PASSWORD, Kamailio
from tests.ports import free_port, free_rtp_range, give_back
from tests.processes import end

CALLER_ID = "+14155550100"
NUMBER = "+14155550123"

_PROXY = """\
request_route {{
    if (is_method("OPTIONS")) {{
        sl_send_reply("200", "OK");
        exit;
    }}
    if (has_totag()) {{
        if (!loose_route() && is_method("ACK")) {{
            exit;
        }}
        t_relay();
        exit;
    }}
    if (is_method("CANCEL")) {{
        t_relay();
        exit;
    }}
    if (!{check}("trunk.example.com", "{password}", "0")) {{
        xlog("L_NOTICE", "CHALLENGED $fU\\n");
        {challenge}("trunk.example.com", "1");
        exit;
    }}
    xlog("L_NOTICE", "TOOK $rU from $fu asserted $hdr(P-Asserted-Identity) by $au\\n");
    if ($fU != "{caller_id}" && $(hdr(P-Asserted-Identity){{nameaddr.uri}}{{uri.user}}) != "{caller_id}") {{
        sl_send_reply("403", "Not Your Number");
        exit;
    }}
    consume_credentials();
    record_route();
    $du = "sip:127.0.0.1:{callee_port}";
    t_relay();
}}
"""


class TrunkProxy(Kamailio):
    """A trunk that challenges each INVITE with 407 (or 401), heeds the caller id and passes the call on."""

    def __init__(self, folder: Path, callee_port: int, *, status: int = 407) -> None:
        proxy = status == 407
        super().__init__(
            folder,
            config=_PROXY,
            callee_port=callee_port,
            caller_id=CALLER_ID,
            check="pv_proxy_authenticate" if proxy else "pv_www_authenticate",
            challenge="proxy_challenge" if proxy else "www_challenge",
        )

    @property
    def taken(self) -> list[tuple[str, ...]]:
        """Of each call that it took: the number, the From URI, the asserted identity, the user."""
        return [
            found.groups() for found in re.finditer(r"TOOK (\S+) from (\S+) asserted (\S+) by (\S+)", self.log_text)
        ]


_ASTERISK_MODULES = (
    *("res_sorcery_config", "res_sorcery_memory", "res_sorcery_astdb", "res_timing_timerfd", "res_pjproject"),
    *("res_pjsip", "res_pjsip_pubsub", "res_pjsip_session", "res_pjsip_sdp_rtp", "res_pjsip_caller_id"),
    *("res_pjsip_authenticator_digest", "res_pjsip_endpoint_identifier_user", "res_pjsip_endpoint_identifier_ip"),
    *("res_pjsip_header_funcs", "res_pjsip_registrar", "res_pjsip_dlg_options", "res_rtp_asterisk", "chan_pjsip"),
    *("pbx_config", "app_echo", "app_verbose", "codec_ulaw", "codec_alaw", "bridge_simple", "func_callerid"),
)

_ASTERISK: dict[str, str] = {
    "asterisk.conf": """\
[directories]
astetcdir => {folder}
astmoddir => {modules}
astvarlibdir => {folder}
astdbdir => {folder}
astkeydir => {folder}
astdatadir => {data}
astagidir => {folder}
astspooldir => {folder}
astrundir => {folder}
astlogdir => {folder}
""",
    "modules.conf": "[modules]\nautoload = no\n{load}",
    "logger.conf": "[general]\ndateformat = %T\n[logfiles]\nconsole => notice,warning,error,verbose(3)\n",
    "rtp.conf": "[general]\nrtpstart = {first_rtp_port}\nrtpend = {last_rtp_port}\n",
    "pjsip.conf": """\
[udp]
type = transport
protocol = udp
bind = 127.0.0.1:{port}
[1001]
type = endpoint
transport = udp
context = trunk
disallow = all
allow = ulaw
auth = 1001
aors = 1001
trust_id_inbound = yes
[1001]
type = auth
auth_type = userpass
username = 1001
password = {password}
[1001]
type = aor
max_contacts = 1
remove_existing = yes
[1001]
type = identify
endpoint = 1001
match = 127.0.0.1
""",
    # Echo() says back what it hears; a busy number is one that ends in 9.
    "extensions.conf": """\
[trunk]
exten => _+X.,1,Verbose(1,TOOK ${{EXTEN}} as ${{CALLERID(num)}} asserted ${{PJSIP_HEADER(read,P-Asserted-Identity)}})
 same => n,GotoIf($["${{CALLERID(num)}}" != "{caller_id}"]?refuse)
 same => n,GotoIf($["${{EXTEN:-1}}" = "9"]?busy)
 same => n,Answer()
 same => n,Echo()
 same => n,Hangup()
 same => n(busy),Hangup(17)
 same => n(refuse),Hangup(21)
""",
}


def find_asterisk() -> str:
    """Return Asterisk, installed or as deploy/asterisk.sh has got it; a machine without it cannot prove anything."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    own = Path(os.environ.get("SIP_AGENT_CACHE") or Path(cache) / "sip-agent") / "asterisk" / "asterisk"
    found = shutil.which("asterisk") or (str(own) if own.is_file() else None)
    assert found, "Asterisk is not there: deploy/asterisk.sh"
    return found


# Not what it says of the step in its dial plan, but what the step says.
_ASTERISK_TOOK = re.compile(r"^(?!.*Executing).*TOOK (\S+) as (\S+) asserted (\S*)", re.MULTILINE)


class Asterisk:
    """A PBX that registers 1001, takes its calls to numbers and echoes them; leaving the context ends it."""

    def __init__(self, folder: Path) -> None:
        program = find_asterisk()
        own = Path(program).parent / "tree" / "usr"
        root = own if own.is_dir() else Path("/usr")
        self.port = free_port(socket.SOCK_DGRAM)
        self._folder = folder
        self._rtp_ports = free_rtp_range(40)
        self._command = [program, "-f", "-vvv", "-C", str(folder / "asterisk.conf")]
        self._process: subprocess.Popen[bytes] | None = None
        values: dict[str, Any] = {
            "folder": folder,
            "modules": next(root.glob("lib/**/asterisk/modules")),
            "data": root / "share" / "asterisk",
            "load": "".join(f"load = {name}.so\n" for name in _ASTERISK_MODULES),
            "first_rtp_port": self._rtp_ports[0],
            "last_rtp_port": self._rtp_ports[1],
            "port": self.port,
            "password": PASSWORD,
            "caller_id": CALLER_ID,
        }
        folder.mkdir(parents=True)
        for name, text in _ASTERISK.items():
            (folder / name).write_text(text.format(**values), encoding="utf-8")

    def __enter__(self) -> Self:
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(lambda: "Asterisk Ready" in self.log_text, f"start of Asterisk, see {self._log_file}", timeout_s=30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        end(self._process)
        give_back(self._rtp_ports)

    @property
    def log_text(self) -> str:
        """What it wrote."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def taken(self) -> list[tuple[str, ...]]:
        """Of each call that it took: the number, the caller id that it heeds, the asserted identity."""
        return [found.groups() for found in _ASTERISK_TOOK.finditer(self.log_text)]

    @property
    def _log_file(self) -> Path:
        return self._folder / "asterisk.log"
