"""Synthesised sound kept on disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from sip_agent.speech.cache import SoundCache

SOUND = np.arange(-500, 500, dtype=np.int16)
ENTRY_BYTES = 2012
"""Of a file with SOUND."""


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[SoundCache]:
    """Open a cache with room for four sounds."""
    made = SoundCache(tmp_path / "a" / "cache", 4 * ENTRY_BYTES + 100)
    yield made
    made.close()


def entries(tmp_path: Path) -> list[Path]:
    """Return the files of the cache, the one used last at the end."""
    return entries_in(tmp_path / "a" / "cache")


def entries_in(folder: Path) -> list[Path]:
    """Return the files of a folder, the one used last at the end."""
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


async def kept(cache: SoundCache, *keys: str) -> list[str]:
    """Return those of the keys that have a sound."""
    return [key for key in keys if await cache.load(key) is not None]


async def test_what_was_stored_comes_back(cache: SoundCache, tmp_path: Path) -> None:
    """A sound is found again under its key, and under no other; another process finds it too."""
    assert await cache.load("key") is None
    await cache.store("key", SOUND)
    other = SoundCache(tmp_path / "a" / "cache", 10_000)

    assert np.array_equal(SOUND, await cache.load("key"))  # type: ignore[arg-type]
    assert np.array_equal(SOUND, await other.load("key"))  # type: ignore[arg-type]
    assert await cache.load("another key") is None
    assert 0o700 == (tmp_path / "a" / "cache").stat().st_mode & 0o777
    other.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:5],
        lambda data: data[:-2],
        lambda data: data + b"\0\0",
        lambda data: bytes(len(data)),
        lambda data: data[:1000] + b"\xff" + data[1001:],
        lambda data: b"RIFF" + data[4:],
    ],
    ids=["empty", "no header", "cut off", "longer", "zeros", "one byte", "another kind"],
)
async def test_a_damaged_entry(cache: SoundCache, tmp_path: Path, damage: object) -> None:
    """A damaged entry counts as missing, and is written anew."""
    await cache.store("key", SOUND)
    path = entries(tmp_path)[0]
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]

    assert await cache.load("key") is None

    await cache.store("key", SOUND)

    assert np.array_equal(SOUND, await cache.load("key"))  # type: ignore[arg-type]
    assert [path] == entries(tmp_path)


async def test_the_longest_unused_goes_first(cache: SoundCache, tmp_path: Path) -> None:
    """Where room is short, what was used last stays."""
    for age, key in enumerate("abcd"):
        await cache.store(key, SOUND)
        os.utime(entries(tmp_path)[-1], ns=(age, age))  # as if long ago
    await cache.load("a")
    await cache.store("e", SOUND)

    assert ["a", "d", "e"] == await kept(cache, *"abcde")


async def test_what_others_left_counts(tmp_path: Path) -> None:
    """Entries of an earlier run, and what a killed one was writing, take room too; other files are left alone."""
    (tmp_path / "letter.txt").write_bytes(bytes(50_000))
    (tmp_path / "0000.speechk9x").write_bytes(bytes(4 * ENTRY_BYTES))
    os.utime(tmp_path / "0000.speechk9x", ns=(1, 1))
    cache = SoundCache(tmp_path, 4 * ENTRY_BYTES)
    await cache.store("key", SOUND)

    assert ["key"] == await kept(cache, "key")
    cache.close()
    names = {path.name for path in entries_in(tmp_path)}

    assert "letter.txt" in names
    assert "0000.speechk9x" not in names


async def test_the_size_is_kept(cache: SoundCache, tmp_path: Path) -> None:
    """However much is stored, the folder does not grow beyond its size."""
    for number in range(40):
        await cache.store(f"key {number}", SOUND[: 100 + 20 * number])

        assert sum(path.stat().st_size for path in entries(tmp_path)) <= 4 * ENTRY_BYTES + 100
    assert ["key 39"] == await kept(cache, "key 39")


async def test_a_sound_that_is_too_large(cache: SoundCache) -> None:
    """What has no room does not drive out the rest."""
    await cache.store("key", SOUND)
    await cache.store("large", np.tile(SOUND, 5))

    assert ["key"] == await kept(cache, "key", "large")


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Where nothing can be kept, that is said once, and nothing fails."""
    (tmp_path / "file").write_bytes(b"")
    cache = SoundCache(tmp_path / "file" / "cache", 10_000)
    with capture_logs() as logs:
        for _ in range(3):
            await cache.store("key", SOUND)

            assert await cache.load("key") is None
    cache.close()

    assert ["speech.cache_unusable"] == [entry["event"] for entry in logs]
    assert "speech.cache_dir" in logs[0]["hint"]
