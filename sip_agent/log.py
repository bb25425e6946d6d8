"""Log entries: structlog on standard error, for people or as JSON, with secrets masked."""

import logging
import math
import os
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from sip_agent.config import LogFormat, LogLevel
from sip_agent.record import format_timestamp

MASK = "***"

_DEEPEST = 16
"""Nesting beyond this is cut off: a log entry is no place for it, and a cycle would have no end."""

# `token_file` is a path and `tokens` is a count; `auth_user` is a name.
_SECRET_KEY = re.compile(
    r"(?:passw|passphrase|secret|token(?!s)|authorization|credential|cookie|(?:api|private)[_-]?key)"
    r"(?!.*_(?:file|path|at)$)",
    re.IGNORECASE,
)

# Lengths are bounded, so that text made by a stranger cannot make the search slow.
_SECRET_TEXT = re.compile(
    r"""
      (?P<header> (?:Proxy-)?Authorization \s? : ) [^\r\n]* (?: \r?\n[\ \t][^\r\n]* )*
    | (?P<digest> \bDigest\ ) (?=[^\r\n]{0,64}=) [^\r\n]+
    | (?P<bearer> \bBearer\ ) [\w.~+/=-]{8,}
    | (?P<basic> \bBasic\ ) (?-i: (?=[a-z]*[A-Z0-9]) [\w+/=-]{8,} )
    | (?P<response> \bresponse \s?=\s? ) (?: "[^"\r\n]{0,256}" | [0-9a-f]{16,128} )
    | (?P<url> :// ) [^\s/@]{1,256} @
    | (?P<uri> \bsips?: [^\s:@;<>]{1,128} : ) [^\s@<>]{1,128} @
    | (?P<query> [?&;] (?:token|access_token|api_?key|key|secret|password) = ) [^\s&;"'<>]{1,512}
    """,
    re.IGNORECASE | re.VERBOSE,
)

# Control characters could steer the terminal that shows the log: C0 become pictures ("␛"), C1 "�".
_CONTROL_CHARACTERS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | dict.fromkeys(
    range(0x7F, 0xA0), 0xFFFD
)


_CREDENTIAL_WORDS = ("authorization", "bearer ", "digest ", "basic ")


def mask_text(text: str) -> str:
    """Mask what is secret inside text: credentials, digest responses, and the userinfo of URLs."""
    # Most text has none of this, and looking for it is much cheaper than the search.
    if "@" not in text and "=" not in text:
        folded = text.casefold()
        if not any(word in folded for word in _CREDENTIAL_WORDS):
            return text
    return _SECRET_TEXT.sub(_mask_match, text)


def _mask_match(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    return f"{match[kind]}{' ' if kind == 'header' else ''}{MASK}{'@' if kind in {'url', 'uri'} else ''}"


@lru_cache(maxsize=4096)  # callers choose header names, so their number must not be unbounded
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def mask_secrets(value: Any, *, hide: bool = False, depth: int = 0) -> Any:
    """Return a copy of plain data with its secrets masked; what is no plain data becomes text."""
    if isinstance(value, str):
        fingerprint = value.startswith("fingerprint:")
        return MASK if hide and value and not fingerprint else mask_text(value)
    if depth < _DEEPEST and isinstance(value, dict):
        return {
            str(key): mask_secrets(item, hide=hide or _is_secret(str(key)), depth=depth + 1)
            for key, item in value.items()
        }
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [mask_secrets(item, hide=hide, depth=depth + 1) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return MASK if hide else value if math.isfinite(value) else None
    return mask_secrets(_as_text(value), hide=hide)


def _as_text(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_timestamp(value) or ""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="backslashreplace")
    return "…" if isinstance(value, dict | list | tuple | set | frozenset) else str(value)


def _mask_secrets(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    masked: EventDict = mask_secrets(entry)
    return masked


def _add_timestamp(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    first = {
        "timestamp": format_timestamp(datetime.now(UTC)),
        "level": entry.pop("level"),
        "event": entry["event"],
    }
    return {**first, **{key: value for key, value in entry.items() if key not in first}}


def _show_control_characters(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    return {
        key: value.translate(_CONTROL_CHARACTERS) if isinstance(value, str) else value for key, value in entry.items()
    }


class _StandardError:
    """Writes rendered entries to the standard error of the moment; a log that cannot be written is lost."""

    def msg(self, message: str) -> None:
        """Write one entry."""
        # Text from the wire may hold lone surrogates, which no encoding takes.
        line = f"{message}\n".encode(errors="backslashreplace").decode()
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed; calls go on
            return

    debug = info = warning = error = critical = exception = fatal = failure = warn = log = msg


class _LibraryHandler(logging.Handler):
    """Passes on what libraries log with the standard library's `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an entry of ours; `logger` names the library."""
        try:
            entry = structlog.get_logger().bind(logger=record.name)
            entry.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
        except Exception:  # noqa: BLE001  (the contract of logging.Handler.emit)
            self.handleError(record)


# One list for ever: loggers that were used before keep pointing to it when the configuration changes.
_processors: list[Processor] = []


def configure_logging(log_format: LogFormat = LogFormat.CONSOLE, level: LogLevel = LogLevel.INFO) -> None:
    """Send all log entries of this process, from `level` on, to standard error in one format.

    Libraries are heard from `warning` on, or from `debug` on if that is the level.
    """
    severity = logging.getLevelNamesMapping()[level.upper()]
    _processors[:] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        _mask_secrets,
        _add_timestamp,
        *_renderers(LogFormat(log_format)),
    ]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [
        *(handler for handler in root.handlers if not isinstance(handler, _LibraryHandler)),
        _LibraryHandler(),
    ]
    root.setLevel(severity if level == LogLevel.DEBUG else max(severity, logging.WARNING))
    logging.captureWarnings(capture=True)


def _renderers(log_format: LogFormat) -> tuple[Processor, ...]:
    if log_format is LogFormat.JSON:
        return (structlog.processors.JSONRenderer(ensure_ascii=False, separators=(",", ":")),)
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
        pad_event_to=0,
    )
    return (_show_control_characters, console)
