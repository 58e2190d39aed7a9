"""Write the locked versions (``make lock``: ``lock.py write``), or test whether they fit (``lock.py fits``)."""

import json
import platform
import re
import sys
from pathlib import Path

LOCK = Path("requirements.lock")
CPU_LOCK, CUDA_LOCK = Path("requirements-cpu.lock"), Path("requirements-cuda.lock")
_CUDA = re.compile(r"(nvidia|cuda|triton)\b")


def write(report: str) -> None:
    """Write the common file, and the file of the build of torch that pip has found.

    Args:
        report: The JSON text of ``pip install --dry-run --report -``.
    """
    common, of_torch, path = [_machine()], [_machine()], CUDA_LOCK
    for item in sorted(json.loads(report)["install"], key=_name):
        digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None:  # the project itself
            continue
        line = f"{_name(item)}=={item['metadata']['version']} --hash=sha256:{digest}"
        is_torch = _name(item) == "torch"
        if is_torch and "+cpu" in line:
            path = CPU_LOCK
        (of_torch if is_torch or _CUDA.match(_name(item)) else common).append(line)
    for file, lines in ((LOCK, common), (path, of_torch)):
        file.write_text("\n".join(lines) + "\n")


def fits() -> bool:
    """Return whether the locked files are for this Python and machine: others need other files."""
    return LOCK.read_text().startswith(_machine())


def _name(item: dict) -> str:
    return item["metadata"]["name"].lower().replace("_", "-").replace(".", "-")


def _machine() -> str:
    python = ".".join(platform.python_version_tuple()[:2])
    return f"# The tested set with hashes: Python {python}, {platform.system()} {platform.machine()}."


def main() -> None:
    """Run a command; ``fits`` answers by its exit status."""
    match sys.argv[1:]:
        case ["write"]:
            write(sys.stdin.read())
        case ["fits"]:
            sys.exit(not fits())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
