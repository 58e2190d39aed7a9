"""Asks pip what installing the project would change on Colab; needs the network and an interpreter of that version.

    python -m tests.colab.dry_run 3.13

pip resolves what Colab lacks, for Colab's Python and platform, with every package of Colab pinned, as the training
notebook does, and installs nothing. A package whose version differs from Colab's is printed, and the exit code is then
1. What Colab has is not resolved again: its torch is a build of its own, with other requirements than the registry's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.colab import colab_packages
from tests.integration.foundry import PROJECT


def main(python: str = "3.13") -> int:
    """Print what would be added and what would be changed."""
    present = {canonicalize_name(name): version for name, version in colab_packages(python).items()}
    requirements = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    absent = [line for line in requirements if canonicalize_name(Requirement(line).name) not in present]
    with tempfile.TemporaryDirectory() as folder:
        report = _resolve(absent, present, python, Path(folder))
    planned = {
        canonicalize_name(item["metadata"]["name"]): item["metadata"]["version"] for item in report.get("install", [])
    }
    added = {name: version for name, version in planned.items() if name not in present}
    changed = {name: version for name, version in planned.items() if present.get(name, version) != version}
    print("added:  ", ", ".join(f"{name} {version}" for name, version in sorted(added.items())) or "nothing")
    print("changed:", ", ".join(f"{name} {version}" for name, version in sorted(changed.items())) or "nothing")
    return int(bool(changed) or not planned)


def _resolve(requirements: list[str], present: dict[str, str], python: str, folder: Path) -> dict[str, object]:
    pins, report = folder / "live.txt", folder / "report.json"
    # A local version such as 2.11.0+cu128 is on no registry: its public part stands for it.
    pins.write_text("".join(f"{name}=={version.split('+')[0]}\n" for name, version in present.items()))
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(17, 36)] + ["manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", str(report), "--target", str(folder / "target"), "--only-binary", ":all:"]
    command += ["--python-version", python, *(f"--platform={name}" for name in platforms), "-c", str(pins)]
    subprocess.run([*command, *requirements], check=True)
    return dict(json.loads(report.read_text()))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
