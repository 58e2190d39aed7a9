"""Copy a checkpoint folder and verify the copy."""

from __future__ import annotations

from pathlib import Path

from transformer_foundry.core.files.atomic import copy_file, make_folder, sync
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE, read_manifest
from transformer_foundry.core.training.checkpointing.directory import verify_checkpoint

__all__ = ["copy_checkpoint"]


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a generation, its manifest last, and read the copy back.

    Raises:
        OSError: If a file cannot be read or written.
        CheckpointError: If the copy is not what the manifest says.
    """
    # Without a manifest the target counts as unfinished while its files are being replaced.
    (target / MANIFEST_FILE).unlink(missing_ok=True)
    make_folder(target)
    for name in read_manifest(source)["files"]:
        copy_file(source / name, target / name)
    sync(target)
    copy_file(source / MANIFEST_FILE, target / MANIFEST_FILE)
    sync(target)
    verify_checkpoint(target)
