"""The root of the copies: a mount that may vanish, known by a marker with a random id.

Colab unmounts Drive after hours, and an empty folder of the machine's own disk is left in its place. A copy made there
would vanish with the machine, and Drive cannot be mounted over it. So the root and what lies above are never made
anew, and each copy begins with a look at the marker.
"""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path

from transformer_foundry.config.drive_folder import COLAB_MOUNT
from transformer_foundry.core.files.atomic import sync, write_text
from transformer_foundry.core.files.plain_files import read_plain_text, require_contained

__all__ = ["MARKER_FILE", "DriveRoot"]

MARKER_FILE = ".transformer-foundry"


class DriveRoot:
    """The folder of ``drive.folder``, which must stay the one of the start.

    Args:
        folder: The folder; it is made at the start if its parent exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._id: str | None = None
        self._foreign = [folder / MARKER_FILE]

    def use(self, folder: Path) -> None:
        """Have the next check look through ``folder``, which is below this one and may come from someone else."""
        self._foreign.append(folder)

    def check(self) -> None:
        """Check that the folder is the one of the start; the first call that finds one makes and marks it.

        Raises:
            OSError: If it is not mounted, or cannot be made, read or written.
            DataError: If a link leads out of a folder that is used.
        """
        if COLAB_MOUNT in self.folder.parents and not os.path.ismount(COLAB_MOUNT):
            raise OSError(errno.ENOTCONN, f"Google Drive is not mounted at {COLAB_MOUNT}")
        while self._foreign:
            require_contained(self._foreign[-1], self.folder)
            self._foreign.pop()
        if self._id is None:
            self._id = self._mark()
        elif self._read() != self._id:
            raise OSError(
                errno.ENOTCONN, f"it is not mounted any more ({MARKER_FILE} of the start is missing from the folder)"
            )

    def _mark(self) -> str:
        if not self.folder.parent.is_dir():
            raise OSError(errno.ENOENT, f"{self.folder.parent} does not exist: mount it, or make the folder")
        self.folder.mkdir(exist_ok=True)
        if not (found := self._read()):
            write_text(self.folder / MARKER_FILE, uuid.uuid4().hex + "\n")
            sync(self.folder)
            found = self._read()  # of two machines that start together, one has written last
        return found

    def _read(self) -> str:
        try:
            return read_plain_text(self.folder / MARKER_FILE, errors="replace").strip()
        except FileNotFoundError:
            return ""
