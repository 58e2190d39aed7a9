"""Set up a session on Colab: constraints for pip, keys from its secrets, Google Drive."""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformer_foundry.console.service_keys import KEYS

__all__ = ["is_colab", "open_session", "pin_installed"]

DRIVE_FOLDER = "/content/drive"


def is_colab() -> bool:
    """Return whether this machine is a Colab machine, without importing anything."""
    # The parent first: find_spec of a submodule of a package that is absent raises.
    return find_spec("google") is not None and find_spec("google.colab") is not None


def pin_installed(path: str) -> str:
    """Write every installed version to ``path`` as constraints for pip, and return ``path``.

    ``pip freeze`` writes URLs for some packages, which are not valid constraints.
    """
    versions: dict[str, str] = {}
    for item in distributions():
        # Colab has some packages twice, its own and Debian's: Python and pip use the first one found.
        if item.name:
            versions.setdefault(re.sub(r"[-_.]+", "-", item.name).lower(), item.version)
    Path(path).write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
    return path


def open_session(*, use_drive: bool = False) -> None:
    """Read the keys in Colab's secrets, mount Google Drive if requested, and print the result.

    Neither is required: a failure prints one line. Outside Colab only the keys in the environment are listed.

    Args:
        use_drive: Whether to mount Google Drive; Colab asks for permission.
    """
    colab = _colab()
    if colab is not None:
        for key in KEYS:
            _read_secret(colab.userdata, key.variable)
    found = [key.variable for key in KEYS if os.environ.get(key.variable)]
    print(f"Keys found: {', '.join(found) or 'none (none is needed)'}")
    if use_drive:
        print(_mount(colab))


def _colab() -> Any:
    try:
        import_module("google.colab.drive")
        import_module("google.colab.userdata")
        return import_module("google.colab")
    except ImportError:
        return None


def _read_secret(userdata: Any, name: str) -> None:
    """Copy a secret into the environment, where child processes find it too."""
    if os.environ.get(name):
        return
    access_errors = (userdata.SecretNotFoundError, userdata.NotebookAccessError, userdata.TimeoutException)
    try:
        value = userdata.get(name)
    except access_errors as error:
        if not isinstance(error, userdata.SecretNotFoundError):
            print(f"The secret {name} is not used ({type(error).__name__}): grant this notebook access to it.")
        return
    if value:
        os.environ[name] = value


def _mount(colab: Any) -> str:
    if colab is None:
        return "Drive: not on Colab; all output stays in the data folder."
    try:
        colab.drive.mount(DRIVE_FOLDER)
    except (OSError, ValueError, RuntimeError) as error:
        return f"Drive: not mounted ({error}); output stays on this machine and is lost when the session ends."
    return "Drive: mounted; checkpoints and package are copied to MyDrive/transformer-foundry."
