"""Checkpoints written in the background while training continues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from transformer_foundry.core.files.atomic import write_when_there_is_space
from transformer_foundry.core.training.checkpointing.checkpoint import SessionMark, write_checkpoint
from transformer_foundry.core.training.checkpointing.retention import prune_checkpoints
from transformer_foundry.core.training.events import Checkpoint

__all__ = ["CheckpointWriter"]


class CheckpointWriter:
    """Writes the checkpoints of a run one after the other in a background thread, and deletes old ones.

    At most one write is in progress: the next checkpoint waits for it, which bounds the memory to two states. An error
    of a write is raised by the next call.

    Args:
        run_folder: Folder of the run.
        logs: Files of JSON lines that become part of each checkpoint.
        session: Who writes.
        on_saved: Called in the background thread with the folder of each checkpoint once it is durable.
    """

    def __init__(
        self,
        run_folder: Path,
        logs: Sequence[Path] = (),
        *,
        session: SessionMark | None = None,
        on_saved: Callable[[Path, Checkpoint], None] | None = None,
    ) -> None:
        self._run_folder, self._logs, self._session, self._on_saved = run_folder, logs, session, on_saved
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, checkpoint: Checkpoint, keep_last: int) -> None:
        """Start writing ``checkpoint`` once the previous one is written, then delete all but the newest and the best.

        Args:
            checkpoint: What ``fit`` yielded.
            keep_last: Newest checkpoints that are kept besides the best one.

        Raises:
            CheckpointError: If the previous one could not be written.
        """
        self.wait()
        # Not a daemon: the interpreter waits for it when the program ends by an error or an interrupt.
        self._thread = threading.Thread(target=self._write, args=(checkpoint, keep_last), name="checkpoint-writer")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: If a checkpoint could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise the error of a failed write, once.

        Raises:
            CheckpointError: If a checkpoint could not be written.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, checkpoint: Checkpoint, keep_last: int) -> None:
        written: list[Path] = []
        try:
            write_when_there_is_space(lambda: written.append(self._write_files(checkpoint)), self._run_folder)
            folder = written[-1]
            best_step = checkpoint.state.loop.best_step
            if self._on_saved is not None:
                self._on_saved(folder, checkpoint)
            prune_checkpoints(self._run_folder, keep_last, best_step)
        except BaseException as err:  # raised in the training thread: an error that ends a thread is only printed
            self._error = err

    def _write_files(self, checkpoint: Checkpoint) -> Path:
        return write_checkpoint(self._run_folder, checkpoint, self._logs, session=self._session)
