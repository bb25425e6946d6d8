"""Secrets in files of their own, beside the settings."""

import stat
from pathlib import Path

from pydantic import SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError

from sip_agent.config.values import Loading

WRONG_FILE = "wrong_file"


def _wrong_file(message: str) -> PydanticCustomError:
    """Return the error of a secret whose file is wrong, so that the message can name the file's setting."""
    return PydanticCustomError(WRONG_FILE, "{problem}", {"problem": message})


def _warn_if_readable_by_all(path: Path, info: ValidationInfo) -> None:
    # Container platforms mount secrets readable by all inside a file system that only the container sees.
    if path.is_relative_to("/run/secrets") or path.is_relative_to("/var/run/secrets"):
        return
    if isinstance(info.context, Loading) and path.stat().st_mode & stat.S_IROTH:
        info.context.warnings.append(f"{path} holds a secret and is readable by every user: chmod 600 {path}")


def _read_secret_file(path: Path, info: ValidationInfo) -> str:
    try:
        content = path.read_text(encoding="utf-8").strip()
        _warn_if_readable_by_all(path, info)
    except FileNotFoundError:
        raise _wrong_file(f"{path} does not exist: create it, or correct the path") from None
    except UnicodeDecodeError:
        raise _wrong_file(f"{path} is not UTF-8 text: write the secret as plain text") from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise _wrong_file(f"{path}: {reason}: let the agent's user read it") from None
    if not content:
        raise _wrong_file(f"{path} is empty: write the secret into it")
    return content


def secret_or_file(value: SecretStr, info: ValidationInfo) -> SecretStr:
    """Take a secret from its `*_file` sibling, which is declared before it."""
    path = info.data.get(f"{info.field_name}_file")
    if path is None:
        return value
    if value.get_secret_value():
        raise ValueError(f"{info.field_name}_file is set too: keep one of the two")
    return SecretStr(_read_secret_file(path, info))


def read_users_file(path: Path, info: ValidationInfo) -> dict[str, SecretStr]:
    """Read lines of user:password; blank lines and lines that start with # do not count."""
    users: dict[str, SecretStr] = {}
    for number, line in enumerate(_read_secret_file(path, info).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        user, colon, password = text.partition(":")
        if not colon or not user.strip() or not password.strip():
            raise _wrong_file(f"{path}, line {number}: write user:password")
        if user.strip() in users:
            raise _wrong_file(f"{path}, line {number}: user {user.strip()} stands here twice")
        users[user.strip()] = SecretStr(password.strip())
    if not users:
        raise _wrong_file(f"{path} names no user: write lines of user:password")
    return users
