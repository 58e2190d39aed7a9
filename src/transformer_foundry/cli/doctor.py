"""Command that checks this machine and prints a fix for every problem: ``kedro doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transformer_foundry.cli.runs import storage_options
from transformer_foundry.cli.tables import show_line
from transformer_foundry.console.colab import is_colab
from transformer_foundry.console.program import with_program
from transformer_foundry.console.service_keys import KEYS
from transformer_foundry.core.system.memory import available_bytes

if TYPE_CHECKING:
    from transformer_foundry.config.storage import Storage

__all__ = ["Diagnosis", "doctor"]

_DISTRIBUTION = "transformer-foundry"
_MIN_DISK_GIB, _RECOMMENDED_DISK_GIB = 1.0, 5.0
"""Needed by a small run with its package and checkpoints, and by one of the standard preset."""
_RECOMMENDED_MEMORY_GIB = 4.0
_GIB = 2**30
_MAX_VERSIONS_SHOWN = 6


@dataclass(frozen=True)
class Diagnosis:
    """Result of one check.

    Attributes:
        status: ``ok``, ``note`` (works, with a limit worth knowing) or ``FAIL``.
        message: What was found.
        fix: What to do; empty if nothing.
    """

    status: str
    message: str
    fix: str = ""


@click.command(short_help="Check this machine, suggest fixes.")
@storage_options
def doctor(storage: Storage) -> None:
    """Check Python, packages, memory, disk, keys, Drive and GPU, and print a fix for each problem.

    Needs no network and changes nothing; keys are never shown. The exit code is 0 if training can start and 1 if a
    problem must be fixed first (FAIL). A note does not prevent training.
    """
    failures = 0
    # torch takes seconds to load: its check comes last, and each result is printed at once.
    checks: tuple[Callable[[], Iterable[Diagnosis]], ...] = (
        check_system,
        lambda: check_packages(importlib.metadata.requires(_DISTRIBUTION) or []),
        lambda: check_tested_versions(Path("constraints.txt")),
        lambda: check_disk(Path(storage.data_dir)),
        check_keys,
        check_drive,
        check_gpu,
    )
    for check in checks:
        for found in check():
            failures += found.status == "FAIL"
            show_line(with_program(f"{found.status:<4}  {found.message}"))
            if found.fix:
                show_line(with_program(f"      -> {found.fix}"))
    show_line(with_program(f"{failures} problem(s) to fix." if failures else "Ready. Next: kedro run"))
    sys.exit(1 if failures else 0)


def check_system() -> Iterator[Diagnosis]:
    """Report the Python version, CPU cores and free memory."""
    yield Diagnosis("ok", f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores")
    free_bytes = available_bytes()
    free = None if free_bytes is None else free_bytes / _GIB
    if free is not None and free < _RECOMMENDED_MEMORY_GIB:
        yield Diagnosis(
            "note",
            f"{free:.1f} GiB of memory free",
            "Close other programs, or set training.memory_budget_gb below this.",
        )
    elif free is not None:
        yield Diagnosis("ok", f"{free:.1f} GiB of memory free")


def check_packages(requirements: Iterable[str]) -> Iterator[Diagnosis]:
    """Compare the installed packages with the required ones, without importing any."""
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
            wrong.append(f"{requirement.name} is {installed}, but {requirement.specifier} is required")
    if wrong:
        yield Diagnosis("FAIL", f"Packages: {'; '.join(wrong)}", _install_fix())
    else:
        yield Diagnosis("ok", f"Packages: all {total} required ones are installed")


def check_tested_versions(constraints: Path) -> Iterator[Diagnosis]:
    """Report packages whose version is not the tested one."""
    from transformer_foundry.core.system.environment import PACKAGES

    try:
        lines = constraints.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    pinned = dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    found = ((name, _version(name), pinned.get(name, pinned.get(name.replace("_", "-")))) for name in PACKAGES)
    # A build for another device ("2.13.0+cu130") is the same version.
    others = [f"{name} {has} ({ours})" for name, has, ours in found if has and ours and has.split("+")[0] != ours]
    if others:
        more = ", ..." if len(others) > _MAX_VERSIONS_SHOWN else ""
        yield Diagnosis(
            "note", f"Versions that differ from the tested ones: {', '.join(others[:_MAX_VERSIONS_SHOWN])}{more}"
        )
    else:
        yield Diagnosis("ok", "Versions: all as tested")


def check_disk(folder: Path) -> Iterator[Diagnosis]:
    """Report whether ``folder``, or its nearest existing parent, is writable and has free space."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Diagnosis("FAIL", f"{folder} is not writable", "Change its permissions, or choose another data_dir.")
        return
    free = shutil.disk_usage(place).free / _GIB
    fix = "Delete old runs (kedro runs list), or choose another disk with --params data_dir=FOLDER."
    if free < _MIN_DISK_GIB:
        yield Diagnosis("FAIL", f"{free:.1f} GiB free for {folder}", fix)
    elif free < _RECOMMENDED_DISK_GIB:
        yield Diagnosis("note", f"{free:.1f} GiB free for {folder}", fix)
    else:
        yield Diagnosis("ok", f"{free:.0f} GiB free for {folder}")


def check_keys() -> Iterator[Diagnosis]:
    """Report which keys are set, never their values."""
    for key in KEYS:
        if os.environ.get(key.variable):
            yield Diagnosis("ok", f"{key.service}: {key.variable} is set")
        elif (place := _stored_key(key.variable)) is not None:
            yield Diagnosis("ok", f"{key.service}: a key is stored in {place}")
        else:
            fix = f"Optional: set {key.variable} (get a key at {key.address})."
            yield Diagnosis("note", f"{key.service}: no key, {key.without}", fix)


def check_drive() -> Iterator[Diagnosis]:
    """Report whether outputs are copied to Google Drive."""
    from transformer_foundry.config.drive_folder import find_folder

    folder = find_folder("auto")
    if folder is not None:
        is_writable = os.access(folder if folder.exists() else folder.parent, os.W_OK)
        fix = "Mount it again: from google.colab import drive; drive.mount('/content/drive', force_remount=True)"
        yield (
            Diagnosis("ok", f"Drive: copies go to {folder}")
            if is_writable
            else Diagnosis("FAIL", f"Drive: {folder} is not writable", fix)
        )
    elif is_colab():
        fix = "from google.colab import drive; drive.mount('/content/drive')"
        yield Diagnosis("note", "Drive: not mounted, outputs are lost when this session ends", fix)
    else:
        yield Diagnosis("ok", "Drive: not on Colab, nothing to mount (drive.folder sets another folder for copies)")


def check_gpu() -> Iterator[Diagnosis]:
    """Report the GPU that torch finds, or why it finds none where there is one."""
    try:
        import torch
    except ImportError as err:
        yield Diagnosis("FAIL", f"torch cannot be imported: {err}", _install_fix())
        return
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        kind = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        yield Diagnosis(
            "ok", f"GPU: {torch.cuda.get_device_name()}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free, {kind}"
        )
    elif shutil.which("nvidia-smi") and torch.version.cuda is None:
        fix = "Install the build for CUDA: pip uninstall torch, then pip install torch (pytorch.org/get-started)"
        yield Diagnosis("note", f"GPU: there is one, but torch {torch.__version__} is built for CPU only", fix)
    else:
        fix = "Runtime > Change runtime type > T4 GPU" if is_colab() else ""
        yield Diagnosis("note", "GPU: none, training runs on the CPU", fix)


def _stored_key(variable: str) -> str | None:
    """Return the file in which a login stored the key; W&B uses a file shared with other services."""
    home = Path.home()
    if variable == "HF_TOKEN":
        folder = Path(os.environ.get("HF_HOME", home / ".cache" / "huggingface"))
        path = Path(os.environ.get("HF_TOKEN_PATH", folder / "token"))
        return str(path) if path.is_file() else None
    if variable == "WANDB_API_KEY":
        path = home / ".netrc"
        return str(path) if path.is_file() and "api.wandb.ai" in path.read_text(errors="replace") else None
    return None


def _install_fix() -> str:
    if is_colab():
        return "Run the cell that installs again: it keeps Colab's own packages."
    return "pip install -e . -c constraints.txt"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
