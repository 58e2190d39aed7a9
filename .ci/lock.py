"""Write and read the locked versions: ``lock.py write`` (``make lock``), ``fits`` and ``cpu`` (``make install``)."""

import importlib.metadata
import json
import platform
import re
import sys
from pathlib import Path

LOCK, CUDA_LOCK = Path("requirements.lock"), Path("requirements-cuda.lock")
_CUDA = re.compile(r"(nvidia|cuda|triton)\b")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def write(report: str) -> None:
    """Write both files from pip's installation report; hashes of other builds of the same version are kept.

    Args:
        report: The JSON text of ``pip install --dry-run --report -``.
    """
    locked: dict[Path, dict[str, set[str]]] = {LOCK: {}, CUDA_LOCK: {}}
    for item in json.loads(report)["install"]:
        digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        name = item["metadata"]["name"].lower().replace("_", "-").replace(".", "-")
        version = item["metadata"]["version"].partition("+")[0]
        if digest is not None:  # the project itself has none
            locked[CUDA_LOCK if _CUDA.match(name) else LOCK][f"{name}=={version}"] = {digest}
    for path, found in locked.items():
        if found:
            _write(path, found)


def _write(path: Path, found: dict[str, set[str]]) -> None:
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.partition(" ")[0] in found:
            found[line.partition(" ")[0]].update(_HASH.findall(line))
    lines = [" ".join([item, *(f"--hash=sha256:{one}" for one in sorted(found[item]))]) for item in sorted(found)]
    path.write_text("\n".join([_machine(), *lines]) + "\n")


def _machine() -> str:
    python = ".".join(platform.python_version_tuple()[:2])
    return f"# The tested set with hashes: Python {python}, {platform.system()} {platform.machine()}."


def fits() -> bool:
    """Return whether the lock is made for this Python and machine: other ones need other files."""
    return LOCK.read_text().startswith(_machine())


def is_cpu_build() -> bool:
    """Return whether the installed torch needs none of the libraries in the second file."""
    return not any(_CUDA.match(line) for line in importlib.metadata.requires("torch") or ())


def main() -> None:
    """Run a command; ``fits`` and ``cuda`` answer by their exit status."""
    match sys.argv[1:]:
        case ["write"]:
            write(sys.stdin.read())
        case ["fits"]:
            sys.exit(not fits())
        case ["cpu"]:
            sys.exit(not is_cpu_build())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
