"""Where copies on Google Drive are."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["COLAB_MOUNT", "find_folder"]

COLAB_MOUNT = Path("/content/drive")


def find_folder(folder: str | None) -> Path | None:
    """Return the folder for copies, ``drive.folder``; ``auto`` is one on Google Drive where that is mounted."""
    if folder != "auto":
        return None if folder is None else Path(folder).expanduser()
    drive = COLAB_MOUNT / "MyDrive"
    return drive / "transformer-foundry" if os.path.ismount(COLAB_MOUNT) and drive.is_dir() else None
