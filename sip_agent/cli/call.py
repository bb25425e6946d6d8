"""`sip-agent call`: place one call, print what happened."""

import asyncio
import math
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sip_agent.cli.folders import why_unwritable
from sip_agent.cli.output import ExitStatus, JsonOption, console, plain, print_json
from sip_agent.errors import SettingsError
from sip_agent.extra_headers import checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sip_agent.caller import CallRequest, CallResult
    from sip_agent.config import Settings
    from sip_agent.outgoing import Outgoing
    from sip_agent.script import LoadedScript

CALLER_RTP_PORTS = (30_000, 39_999)
"""Apart from the agent's default range, so that both can run on one machine."""


class Engine(StrEnum):
    """Which build of pjsua2 places the call."""

    AUTO = "auto"
    NATIVE = "native"
    LIGHT = "light"


TRANSPORTS = ("udp", "tcp", "tls")


def call(
    uri: Annotated[
        str, typer.Argument(help="Whom to call, like sip:agent@127.0.0.1:5060, or a number like +14155550123.")
    ],
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="Header field to send, 'Name: value'; repeatable."),
    ] = None,
    user: Annotated[str, typer.Option(help="User name for digest authentication.")] = "",
    password: Annotated[
        str,
        typer.Option(help="Password; better in the environment.", envvar="SIP_AGENT_CALL_PASSWORD"),
    ] = "",
    from_uri: Annotated[str, typer.Option("--from", help="The From URI.")] = "",
    play: Annotated[Path | None, typer.Option(help="Sound file to play once the call is answered.")] = None,
    say: Annotated[str, typer.Option(help="Text to say once the call is answered.")] = "",
    voice: Annotated[str, typer.Option(help="Voice that says it, like en-us, de or en-us+f2.")] = "",
    tone: Annotated[float | None, typer.Option(help="Send a tone of so many Hz.")] = None,
    dtmf: Annotated[str, typer.Option(help="Digits to send (0-9 * # A-D), as RFC 4733 events.")] = "",
    script: Annotated[
        Path | None, typer.Option(help="Follow this script once the call is answered; exit status 1 if it fails.")
    ] = None,
    var: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=TEXT", help="Variable of the script; repeatable.")
    ] = None,
    account: Annotated[
        str, typer.Option(metavar="NAME", help="Account to call a number through; else outbound.account.")
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings file: speech, hearing, and for numbers accounts and outbound."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(help="Hang up so many seconds after the answer; without it, once all is said."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Record to this WAV file: left the far end, right what was sent.")
    ] = None,
    codec: Annotated[str, typer.Option(help="Offer this codec alone: PCMU, PCMA, G722 or opus.")] = "",
    transport: Annotated[str, typer.Option(help="udp, tcp or tls.")] = "",
    *,
    srtp: Annotated[bool, typer.Option("--srtp", help="Offer encrypted RTP (SDES), and nothing else.")] = False,
    ring_timeout: Annotated[float, typer.Option(help="Give up after so many seconds without an answer.")] = 60,
    engine: Annotated[Engine, typer.Option(help="Which build of pjsua2 to use.")] = Engine.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Place one call and print what happened; exit status 0 if it was answered, 1 if not.

    Example: sip-agent call sip:agent@127.0.0.1 -H 'X-Run-Id: 1' --user cekura --tone 440 --duration 3
    """
    from sip_agent.caller import CallRequest
    from sip_agent.config import LogFormat, LogLevel
    from sip_agent.digits import DTMF_DIGITS
    from sip_agent.log import configure_logging
    from sip_agent.ua.endpoint import Caller

    headers = [_header(text) for text in header or ()]
    texts = {"the URI": uri, "--user": user, "--password": password, "--from": from_uri, "--say": say}
    for name, text in (*texts.items(), *(("--var", text) for text in var or ())):
        _check_text(name, text)
    if transport and transport.lower() not in TRANSPORTS:
        raise SettingsError(f"--transport: write udp, tcp or tls, not {transport}")
    if play is not None:
        _check_sound(play)
    if record is not None:
        _check_recording(record)
    if wrong := sorted(set(dtmf.upper()) - DTMF_DIGITS):
        raise SettingsError(f"--dtmf: write digits of 0-9 * # A-D, not {' '.join(map(repr, wrong))}")
    if var and script is None:
        raise SettingsError("--var: a variable is of a script; name the script with --script")
    if script is not None and (play or say or tone is not None or dtmf or duration is not None):
        raise SettingsError("--script: write what is played, said or pressed, and for how long, into the script")
    settings = caller_settings(codec=codec, srtp=srtp, engine=engine, voice=voice, config=config)
    _check_numbers(tone, settings.media.sample_rate_hz, duration, ring_timeout)
    loaded = None if script is None else _script(script, var or ())
    to_number = bool(account) or uri.startswith("+")
    if to_number and (user or password or from_uri or transport):
        raise SettingsError("--user, --password, --from and --transport: the account says them for a number")
    dialled = _dialled(uri, account, config) if to_number else None
    target = _target(uri, transport.lower()) if dialled is None else dialled.uri
    configure_logging(LogFormat.CONSOLE, LogLevel.WARNING)
    request = CallRequest(
        uri=target,
        caller=Caller(uri=from_uri, username=user, password=password) if dialled is None else dialled.caller,
        account=None if dialled is None else dialled.account,
        headers=headers if dialled is None else [*dialled.headers, *headers],
        play=play,
        say=say,
        tone_hz=tone,
        dtmf=dtmf,
        duration_s=duration,
        ring_timeout_s=ring_timeout,
        record=record,
        script=loaded,
    )
    result = asyncio.run(_call(settings, request))
    if as_json:
        print_json(result_document(result))
    else:
        _print_result(result)
    answered = result.record.answered_at is not None and not result.record.error
    raise typer.Exit(ExitStatus.DONE if answered else ExitStatus.TESTED_THING_FAILED)


def caller_settings(
    *,
    codec: str = "",
    srtp: bool = False,
    engine: Engine = Engine.AUTO,
    voice: str = "",
    config: Path | None = None,
) -> "Settings":
    """Return the settings of a process that only places calls; of a settings file, what it speaks and hears with."""
    from sip_agent.config import Settings, load_settings

    media: dict[str, Any] = {
        "rtp_ports": CALLER_RTP_PORTS,
        "srtp": "mandatory" if srtp else "off",
        "engine": engine,
        "rtp_timeout": 0,
    }
    if codec:
        media["codecs"] = [codec]
    read = Settings.model_validate({"speech": {"cache_mb": 0}}) if config is None else load_settings(config)
    speech = read.speech.model_copy(update={"voice": voice}) if voice else read.speech
    try:
        return Settings.model_validate({"media": media, "speech": speech, "hearing": read.hearing})
    except ValueError as error:
        raise SettingsError(f"--codec: write PCMU, PCMA, G722 or opus, not {codec}") from error


async def _call(settings: "Settings", request: "CallRequest") -> "CallResult":
    from sip_agent.caller import place_call
    from sip_agent.hearing import Hearing
    from sip_agent.speech import Speech
    from sip_agent.ua.endpoint import Binding, Endpoint

    speech = Speech.from_settings(settings.speech, settings.base_dir)
    hearing = Hearing.from_settings(settings.hearing)
    next_hop = request.caller.proxy or request.uri
    transport, host = _transport_of(next_hop), _local_host(next_hop)
    endpoint = Endpoint(settings, [Binding(transport=transport, host=host, port=0)], max_calls=1)
    await endpoint.start()
    try:
        return await place_call(endpoint, request, speech, hearing)
    finally:
        await endpoint.stop()
        hearing.close()
        await speech.close()


def result_document(result: "CallResult") -> dict[str, Any]:
    """Return what `--json` prints: the statuses received, and the record of our side."""
    return {"statuses": list(result.statuses), **result.record.to_dict()}


def _print_result(result: "CallResult") -> None:
    record = result.record
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("outcome", f"[bold]{record.outcome}[/] ({record.sip_status})")
    table.add_row("statuses", " ".join(str(status) for status in result.statuses))
    if record.error:
        table.add_row("error", plain(record.error))
    if record.talk_ms is not None:
        table.add_row("answered after", f"{record.answer_delay_ms} ms")
        table.add_row("talk time", f"{record.talk_ms / 1000:.1f} s, ended by the {_who(record.ended_by)}")
        table.add_row("codec", f"{record.codec} {record.clock_rate_hz} Hz{', SRTP' if record.srtp else ''}")
    else:
        table.add_row("reason", plain(record.end_reason or ""))
    if record.rtp is not None and record.talk_ms is not None:
        rx, tx = record.rtp.rx, record.rtp.tx
        table.add_row("received", f"{rx.packets} packets, {rx.lost} lost, jitter {rx.jitter_ms:g} ms")
        table.add_row("sent", f"{tx.packets} packets, {tx.lost} lost as the far end reports")
        table.add_row("MOS (estimated)", str(record.rtp.mos_lq_estimated or "unknown"))
    if record.dtmf:
        table.add_row("DTMF received", "".join(str(item["digit"]) for item in record.dtmf))
    replies = record.metrics.get("caller_latency_ms", {})
    if replies.get("count"):
        table.add_row("far end replied", f"after {replies['p50']} ms (p50), {replies['max']} ms at most")
    if record.recording is not None:
        error = record.recording["error"]
        table.add_row("recording", plain(f"failed: {error}" if error else record.recording["path"]))
    console.print(table)


def _who(ended_by: str | None) -> str:
    return {"agent": "caller (this side)", "caller": "far end"}.get(str(ended_by), "system")


def _check_text(option: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{option}: it is not UTF-8 text; write it in UTF-8") from None


def _check_numbers(tone_hz: float | None, sample_rate_hz: int, duration_s: float | None, ring_timeout_s: float) -> None:
    """Raise SettingsError for what is out of range; not a number is, too."""
    if tone_hz is not None and not 0 < tone_hz < sample_rate_hz / 2:
        raise SettingsError(f"--tone: write more than 0 and less than {sample_rate_hz / 2:g} Hz, not {tone_hz:g}")
    if duration_s is not None and not 0 <= duration_s < math.inf:
        raise SettingsError(f"--duration: write a number of seconds, 0 or more, not {duration_s:g}")
    if not 0 < ring_timeout_s < math.inf:
        raise SettingsError(f"--ring-timeout: write a number of seconds, more than 0, not {ring_timeout_s:g}")


def _check_recording(path: Path) -> None:
    if problem := why_unwritable(path.parent):
        raise SettingsError(f"--record: {problem}")
    if path.exists() and not path.is_file():
        raise SettingsError(f"--record: {path} is there, and is no file: name a WAV file to write")


def _check_sound(path: Path) -> None:
    from media.wav import AudioFileError, open_audio

    if not path.is_file():
        raise SettingsError(f"--play: there is no sound file {path}")
    try:
        with open_audio(path, 16_000) as frames:
            empty = next(frames, None) is None
    except AudioFileError as error:
        raise SettingsError(f"--play: {error}") from error
    if empty:
        raise SettingsError(f"--play: there is no sound in {path}")


def _script(path: Path, variables: "Sequence[str]") -> "LoadedScript":
    from sip_agent.script import load_script

    texts = {}
    for variable in variables:
        name, equals, text = variable.partition("=")
        if not equals:
            raise SettingsError(f"--var: write NAME=TEXT, not {variable!r}")
        texts[name.strip()] = text
    return load_script(path).with_variables(texts)


def _dialled(text: str, account: str, config: Path | None) -> "Outgoing":
    """Return the call to a phone number, claimed in the ledger."""
    from sip_agent.config import load_settings
    from sip_agent.headers import CorrelationIds
    from sip_agent.store import Claim, dial_ledger
    from sip_agent.trunk import check_number, find_trunk

    settings = load_settings(config)
    limits = settings.outbound
    trunk, number = find_trunk(settings, account), check_number(text, limits)
    with dial_ledger(settings.store.url, base_dir=settings.base_dir) as ledger:
        if ledger.claim(number, datetime.now(UTC), max_per_day=limits.max_calls_per_day) is not Claim.GRANTED:
            raise SettingsError(
                f"outbound.max_calls_per_day: {limits.max_calls_per_day} numbers were dialled in 24 hours: not dialled"
            )
    return trunk.outgoing(number, CorrelationIds(), limits.ring_timeout.total_seconds())


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise SettingsError(f"--header: write 'Name: value', not {text!r}")
    try:
        (field,) = checked([(name.strip(), value.strip())])
    except ValueError as error:
        raise SettingsError(f"--header: {error}") from error
    return field


def _target(uri: str, transport: str) -> str:
    if not uri.lower().startswith(("sip:", "sips:")):
        raise SettingsError(f"{uri}: write a SIP URI, like sip:agent@127.0.0.1:5060")
    if transport and ";transport=" not in uri.lower():
        return f"{uri};transport={transport}"
    return uri


def _transport_of(uri: str) -> str:
    if uri.lower().startswith("sips:"):
        return "TLS"
    name = uri.lower().partition(";transport=")[2].partition(";")[0]
    return name.upper() if name in TRANSPORTS else "UDP"


def _local_host(uri: str) -> str:
    """Return the address to call from: loopback to loopback, otherwise any of the same family."""
    from sip_agent.invite import SipUri

    host = SipUri.parse(uri).host.strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        return "127.0.0.1" if host == "localhost" else "0.0.0.0"  # noqa: S104  (a caller listens to its peer only)
    if address.is_loopback:
        return "127.0.0.1" if address.version == 4 else "::1"
    return "0.0.0.0" if address.version == 4 else "::"  # noqa: S104
