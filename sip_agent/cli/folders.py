"""Folders that a command is to write to."""

from pathlib import Path
from tempfile import TemporaryFile


def nearest_folder(folder: Path) -> Path:
    """Return the folder, or what is nearest above it if it is still to be created."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def why_unwritable(folder: Path) -> str:
    """Return why no file can be made in a folder, which may be still to be created; empty if one can.

    One is made, and leaves nothing behind: permissions alone do not tell, least of all the administrator.
    """
    try:
        standing = nearest_folder(folder)
        with TemporaryFile(dir=standing):
            return ""
    except OSError as error:
        return f"cannot create or write to the folder {folder}: {(error.strerror or str(error)).lower()}"
