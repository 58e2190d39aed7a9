"""What a session on Colab begins with: pins of what is installed, keys from its Secrets, Google Drive."""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["SECRETS", "is_colab", "open_session", "pin_installed"]

SECRETS = ("HF_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN")
"""Names of the secrets that are looked for; each becomes an environment variable."""

DRIVE_FOLDER = "/content/drive"


def is_colab() -> bool:
    """Return whether this machine is one of Colab's; nothing is imported."""
    # The parent first: find_spec of a submodule of a package that is absent raises.
    return find_spec("google") is not None and find_spec("google.colab") is not None


def pin_installed(path: str) -> str:
    """Write every installed version to ``path`` as constraints for pip, and return ``path``.

    ``pip freeze`` would write addresses for some of them, which are no constraints.
    """
    versions: dict[str, str] = {}
    for item in distributions():
        # Colab has some packages twice, its own and Debian's: Python takes the first that it finds, and so does pip.
        if item.name:
            versions.setdefault(re.sub(r"[-_.]+", "-", item.name).lower(), item.version)
    Path(path).write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
    return path


def open_session(*, use_drive: bool = False) -> None:
    """Take the keys that Colab keeps, mount Google Drive if wanted, and say what is there; elsewhere only say it.

    Neither is needed: what cannot be had is told in one line, and the session goes on without.

    Args:
        use_drive: Whether Google Drive is mounted; Colab then asks for permission.
    """
    colab = _colab()
    if colab is not None:
        for name in SECRETS:
            _take_secret(colab.userdata, name)
    found = [name for name in SECRETS if os.environ.get(name)]
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


def _take_secret(userdata: Any, name: str) -> None:
    """Copy a secret into the environment, where programs that this one starts see it too."""
    if os.environ.get(name):
        return
    refusals = (userdata.SecretNotFoundError, userdata.NotebookAccessError, userdata.TimeoutException)
    try:
        value = userdata.get(name)
    except refusals as error:
        if not isinstance(error, userdata.SecretNotFoundError):
            print(f"The secret {name} is not used ({type(error).__name__}): allow this notebook to see it.")
        return
    if value:
        os.environ[name] = value


def _mount(colab: Any) -> str:
    if colab is None:
        return "Drive: not on Colab; everything stays in the data folder."
    try:
        colab.drive.mount(DRIVE_FOLDER)
    except (OSError, ValueError, RuntimeError) as error:
        return f"Drive: not mounted ({error}); everything stays on this machine and goes with the session."
    return "Drive: mounted; checkpoints and package are copied to MyDrive/transformer-foundry."
