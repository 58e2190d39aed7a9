"""Use packages in a new virtual environment: ``python -m tests.benchmarks.package_environment [PACKAGE ...]``.

It holds what requirements.txt names and nothing else; pip needs an index. Prints what was installed, and what each
command of a package gave.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.core.publishing.serving import ABSENT, ask, running_server, served_package

TASKS = ("causal_lm", "masked_lm", "sequence_classification", "seq2seq_lm")


def main() -> int:
    """Return how many commands failed; folders of packages may be given instead of small models."""
    packages = [Path(name) for name in sys.argv[1:]] or [served_package(task)[1].folder for task in TASKS]
    with tempfile.TemporaryDirectory(prefix="foundry-environment-") as scratch:
        python = _install(Path(scratch) / "venv", packages[0] / "requirements.txt")
        return sum(not ok for package in packages for ok in (_run(python, package), _serve(python, package)))


def _install(folder: Path, requirements: Path) -> str:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-r", requirements], check=True)
    listed = json.loads(subprocess.run([*pip, "list", "--format=json"], capture_output=True, check=True).stdout)
    names = {item["name"].replace("-", "_") for item in listed}
    assert not names & set(ABSENT), names
    print(f"{len(names)} packages in {time.perf_counter() - started:.0f} s: {', '.join(sorted(names))}")
    return python


def _run(python: str, package: Path) -> bool:
    done = subprocess.run([python, "inference.py"], cwd=package, capture_output=True, text=True)
    print(f"{package.name}: python inference.py -> {done.returncode}: {(done.stdout or done.stderr)[-160:]!r}")
    return done.returncode == 0


def _serve(python: str, package: Path) -> bool:
    manifest = json.loads((package / "manifest.json").read_text())
    task, text = manifest["model"]["task"], manifest["prompt"]["text"]
    writes = task in ("causal_lm", "seq2seq_lm")
    body = {"text": text} if writes else {"texts": [text + (" [MASK]" if task == "masked_lm" else "")]}
    with running_server(package, command=[python, "server.py"]) as port:
        health = ask(port, "/health")
        answer = ask(port, "/generate" if writes else "/predict", body)
    (package / "server.log").unlink()
    print(f"{package.name}: python server.py -> {health[0]}, {answer[0]}: {str(answer[1])[:120]}")
    return (health[0], answer[0]) == (200, 200)


if __name__ == "__main__":
    sys.exit(main())
