"""Thirteen ways in which a file on a disk or on Drive goes bad.

python -m tests.faults.damage KIND FILE
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

BLOCK_BYTES = 4096
YEAR_S = 365 * 86400


def flip_bits(path: Path, count: int) -> None:
    content, chance = bytearray(path.read_bytes()), random.Random(0)
    for _ in range(count):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def clear_block(path: Path, start: int) -> None:
    """A block of the file that was allocated and never written."""
    content = bytearray(path.read_bytes())
    block = content[start:][:BLOCK_BYTES]
    content[start : start + len(block) or None] = bytes(len(block))
    path.write_bytes(content)


def duplicate(path: Path) -> None:
    """Drive's answer to a conflict."""
    shutil.copy2(path, path.with_name(f"{path.stem} (1){path.suffix}"))


def set_time(path: Path, seconds: float) -> None:
    os.utime(path, (seconds, seconds))


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nonexistent/x")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit flipped": lambda path: flip_bits(path, 1),
    "sixteen bits flipped": lambda path: flip_bits(path, 16),
    "cut off": cut_off,
    "empty": lambda path: path.write_bytes(b""),
    "last block zero": lambda path: clear_block(path, max(0, path.stat().st_size - BLOCK_BYTES)),
    "inner block zero": lambda path: clear_block(path, path.stat().st_size // 3),
    "a web page instead": lambda path: path.write_text("<!DOCTYPE html><title>Quota exceeded</title>"),
    "a second copy beside it": duplicate,
    "from the future": lambda path: set_time(path, time.time() + YEAR_S),
    "from 1970": lambda path: set_time(path, 0),
    "a folder instead": become_a_folder,
    "not readable": lambda path: path.chmod(0),
    "a dangling link instead": become_a_dangling_link,
}

HARMLESS = {"a second copy beside it", "from the future", "from 1970"}
"""Damages after which the content is still what it was; root can also read what is not readable."""


if __name__ == "__main__":
    DAMAGES[sys.argv[1]](Path(sys.argv[2]))
