"""Run a command with canaries for secrets in its environment and look for them in all that it prints and writes.

``python -m tests.faults.secret_scan FOLDER COMMAND...`` prints where in FOLDER they are; exit code 1 if anywhere.
"""

from __future__ import annotations

import base64
import gzip
import os
import random
import string
import subprocess
import sys
import time
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SHAPES = {
    "HF_TOKEN": ("hf_", 34),
    "HUGGING_FACE_HUB_TOKEN": ("hf_", 34),
    "WANDB_API_KEY": ("", 40),
    "GITHUB_TOKEN": ("ghp_", 36),
    "GOOGLE_API_KEY": ("AIza", 35),
    "PGPASSWORD": ("", 24),
}
"""Variable -> how such a secret begins, and how many letters and digits follow."""


def make_canaries(seed: int = 0) -> dict[str, str]:
    """Return a secret for each variable, none of them real."""
    letters = random.Random(seed)
    return {
        name: start + "".join(letters.choices(string.ascii_letters + string.digits, k=count))
        for name, (start, count) in SHAPES.items()
    }


def scan(
    command: Sequence[str], folder: Path, canaries: Mapping[str, str], *, cwd: Path, environment: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[bytes], list[str]]:
    """Run ``command`` and return how it ended, and where the canaries were found.

    Files in ``folder`` that are older than the run are left out; zip members and gzip files are looked into.
    """
    begun = time.time() - 2
    ended = subprocess.run(command, cwd=cwd, env={**environment, **canaries}, capture_output=True)
    forms = {name: _forms(value) for name, value in canaries.items()}
    places = [("what it printed", ended.stdout + ended.stderr), *_contents(folder, begun)]
    hits = [f"{name} in {place}" for place, data in places for name, looks in forms.items() if _holds(data, looks)]
    return ended, sorted(set(hits))


def _forms(value: str) -> list[bytes]:
    plain = value.encode()
    # The middle: a value that is cut at both ends is no secret any more only if this is gone as well.
    return [plain, base64.b64encode(plain).rstrip(b"="), urllib.parse.quote(value).encode(), plain[6:20]]


def _holds(data: bytes, looks: Sequence[bytes]) -> bool:
    return any(look in data for look in looks)


def _contents(folder: Path, begun: float) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.stat().st_mtime < begun:
            continue
        data = path.read_bytes()
        yield str(path), data
        try:
            if data[:2] == b"PK":
                with zipfile.ZipFile(path) as archive:
                    yield from ((f"{path}!{name}", archive.read(name)) for name in archive.namelist())
            elif data[:2] == b"\x1f\x8b":
                yield f"{path}!gzip", gzip.decompress(data)
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError):
            continue


def main(arguments: Sequence[str]) -> int:
    """Scan one command and print what was found."""
    folder, command = Path(arguments[0]), arguments[1:]
    ended, hits = scan(command, folder, make_canaries(), cwd=Path.cwd(), environment=os.environ)
    print("\n".join([f"exit code {ended.returncode}", *hits, f"{len(hits)} places hold a canary"]))
    return int(bool(hits))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
