"""What the repository holds."""

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BYTES_MAX = 256 * 1024


def test_no_file_is_large() -> None:
    """Everything is source: a dump, a recording or a built file would be in every clone for ever."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    assert len(files) > 100
    assert [] == [file.name for file in files if file.exists() and file.stat().st_size > BYTES_MAX]
