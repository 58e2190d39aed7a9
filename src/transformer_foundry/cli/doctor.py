"""``kedro doctor``: whether this machine and its settings will do, with a cure for what will not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from transformer_foundry.console.colab import is_colab

__all__ = ["Finding", "doctor"]

_DISTRIBUTION = "transformer-foundry"
_LEAST_DISK_GIB, _AMPLE_DISK_GIB = 1.0, 5.0
"""A small run with its package and checkpoints; one of the standard preset."""
_AMPLE_MEMORY_GIB = 4.0
_GIB = 2**30
_SHOWN_DIFFERENCES = 6

_KEYS = (
    ("WANDB_API_KEY", "W&B", "runs are recorded offline", "wandb.ai/authorize"),
    ("HF_TOKEN", "Hugging Face", "public data are read, nothing is published", "huggingface.co/settings/tokens"),
    ("GITHUB_TOKEN", "GitHub", "60 gists an hour", "github.com/settings/tokens"),
)
"""Variable, whose key it is, what happens without it, where to get it."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        status: ``ok``, ``note`` (works, with a limit worth knowing) or ``FAIL``.
        message: What was found.
        cure: What to do; empty if nothing is to be done.
    """

    status: str
    message: str
    cure: str = ""


@click.command(short_help="Check this machine, with cures.")
@click.option("--data-dir", default="data", show_default=True, help="Root of everything that is written.")
def doctor(data_dir: str) -> None:
    """Check Python, packages, memory, disk, keys, Drive and GPU, and say how to mend what is wrong.

    Needs no network and changes nothing; of keys only whether they are set is shown. Ends with 0 if training can
    start, with 1 if something has to be mended first (FAIL); a note is no reason not to start.
    """
    failures = 0
    # torch takes seconds to load: what needs it comes last, and each line is shown as soon as it is known.
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        check_system,
        lambda: check_packages(importlib.metadata.requires(_DISTRIBUTION) or []),
        lambda: check_tested_versions(Path("constraints.txt")),
        lambda: check_disk(Path(data_dir)),
        check_keys,
        check_drive,
        check_gpu,
    )
    for check in checks:
        for finding in check():
            failures += finding.status == "FAIL"
            click.echo(
                f"{finding.status:<4}  {finding.message}" + (f"\n      -> {finding.cure}" if finding.cure else "")
            )
    click.echo(f"{failures} to mend." if failures else "Ready. Next: kedro run")
    sys.exit(1 if failures else 0)


def check_system() -> Iterator[Finding]:
    """Say which Python, how many cores and how much free memory there are."""
    yield Finding("ok", f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores")
    free = free_memory_gib()
    if free is not None and free < _AMPLE_MEMORY_GIB:
        yield Finding(
            "note",
            f"{free:.1f} GiB of memory free",
            "Close other programs, or set training.memory_budget_gb below this.",
        )
    elif free is not None:
        yield Finding("ok", f"{free:.1f} GiB of memory free")


def check_packages(requirements: Iterable[str]) -> Iterator[Finding]:
    """Compare what is installed with what is required, without importing anything."""
    from packaging.requirements import Requirement

    wrong, total = [], 0
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        total += 1
        installed = _version(requirement.name)
        if installed is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, {requirement.specifier} is needed")
    if wrong:
        yield Finding("FAIL", f"Packages: {'; '.join(wrong)}", _install_cure())
    else:
        yield Finding("ok", f"Packages: all {total} that are required")


def check_tested_versions(constraints: Path) -> Iterator[Finding]:
    """Name packages of other versions than those that the tests ran with."""
    from transformer_foundry.core.system.environment import PACKAGES

    try:
        lines = constraints.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    pinned = dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    found = ((name, _version(name), pinned.get(name, pinned.get(name.replace("_", "-")))) for name in PACKAGES)
    # A build of the same version for another device ("2.13.0+cu130") is no other version.
    others = [f"{name} {has} ({ours})" for name, has, ours in found if has and ours and has.split("+")[0] != ours]
    if others:
        more = ", ..." if len(others) > _SHOWN_DIFFERENCES else ""
        yield Finding("note", f"Other versions than those tested: {', '.join(others[:_SHOWN_DIFFERENCES])}{more}")
    else:
        yield Finding("ok", "Versions: those that the tests ran with")


def check_disk(folder: Path) -> Iterator[Finding]:
    """Say whether ``folder``, or the nearest one above it that exists, can be written and has room."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Finding("FAIL", f"{folder} cannot be written", "Mend its permissions, or choose another data_dir.")
        return
    free = shutil.disk_usage(place).free / _GIB
    cure = "Delete old runs (kedro runs list), or choose another disk with --params data_dir=FOLDER."
    if free < _LEAST_DISK_GIB:
        yield Finding("FAIL", f"{free:.1f} GiB free for {folder}", cure)
    elif free < _AMPLE_DISK_GIB:
        yield Finding("note", f"{free:.1f} GiB free for {folder}", cure)
    else:
        yield Finding("ok", f"{free:.0f} GiB free for {folder}")


def check_keys() -> Iterator[Finding]:
    """Say which keys are set, never what they are."""
    for variable, owner, without, address in _KEYS:
        if os.environ.get(variable):
            yield Finding("ok", f"{owner}: {variable} is set")
        elif (place := _kept_key(variable)) is not None:
            yield Finding("ok", f"{owner}: a key is kept in {place}")
        else:
            yield Finding("note", f"{owner}: no key, {without}", f"Optional: set {variable} (from {address}).")


def check_drive() -> Iterator[Finding]:
    """Say whether what is made is copied to Google Drive."""
    from transformer_foundry.hooks.drive.callback import find_folder

    folder = find_folder("auto")
    if folder is not None:
        is_writable = os.access(folder if folder.exists() else folder.parent, os.W_OK)
        cure = "Mount it again: from google.colab import drive; drive.mount('/content/drive', force_remount=True)"
        yield (
            Finding("ok", f"Drive: copies go to {folder}")
            if is_writable
            else Finding("FAIL", f"Drive: {folder} cannot be written", cure)
        )
    elif is_colab():
        cure = "from google.colab import drive; drive.mount('/content/drive')"
        yield Finding("note", "Drive is not mounted: what is made is lost with this machine", cure)
    else:
        yield Finding("ok", "Drive: not on Colab, nothing to mount (drive.folder names another folder for copies)")


def check_gpu() -> Iterator[Finding]:
    """Say which GPU torch sees, and why if it sees none where there is one."""
    try:
        import torch
    except ImportError as err:
        yield Finding("FAIL", f"torch cannot be imported: {err}", _install_cure())
        return
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        kind = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        yield Finding(
            "ok", f"GPU: {torch.cuda.get_device_name()}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free, {kind}"
        )
    elif shutil.which("nvidia-smi") and torch.version.cuda is None:
        cure = "Install the build for CUDA: pip uninstall torch, then pip install torch (pytorch.org/get-started)"
        yield Finding("note", f"GPU: there is one, but torch {torch.__version__} is built for CPU only", cure)
    else:
        cure = "Runtime > Change runtime type > T4 GPU" if is_colab() else ""
        yield Finding("note", "GPU: none, training runs on the CPU", cure)


def free_memory_gib() -> float | None:
    """Return the memory that programs can still take, GiB; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(sizes["MemAvailable"].split()[0]) * 1024 / _GIB if "MemAvailable" in sizes else None


def _kept_key(variable: str) -> str | None:
    """Return the file in which a log-in has kept the key; the file of W&B is shared with other services."""
    home = Path.home()
    if variable == "HF_TOKEN":
        folder = Path(os.environ.get("HF_HOME", home / ".cache" / "huggingface"))
        path = Path(os.environ.get("HF_TOKEN_PATH", folder / "token"))
        return str(path) if path.is_file() else None
    if variable == "WANDB_API_KEY":
        path = home / ".netrc"
        return str(path) if path.is_file() and "api.wandb.ai" in path.read_text(errors="replace") else None
    return None


def _install_cure() -> str:
    if is_colab():
        return "Run the cell that installs again: it keeps Colab's own packages."
    return "pip install -e . -c constraints.txt"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
