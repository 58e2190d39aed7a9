"""The callbacks of one training run: started, notified, ended, and switched off when they fail."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import FoundryError, error_message
from transformer_foundry.core.files.lock import RunLock
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext

if TYPE_CHECKING:
    from transformer_foundry.core.training.events import Checkpoint

__all__ = ["RunCallbacks"]

_log = logging.getLogger(__name__)


class RunCallbacks:
    """Calls the callbacks of one run, and holds the lock of the run that is trained.

    The callbacks nest like ``with`` statements: the first is started first and ended last. Everything in between, too,
    reaches the last one first.

    Args:
        context: The run.
        callbacks: Its callbacks, outermost first.
    """

    def __init__(self, context: RunContext, callbacks: Sequence[Callback]) -> None:
        self.context = context
        self._callbacks = tuple(callbacks)
        self._active: list[Callback] = []
        self._warned: set[str] = set()
        self._seen: set[str] = set()
        self._lock: RunLock | None = None

    def check(self) -> None:
        """Have required callbacks refuse a run that cannot succeed.

        Raises:
            FoundryError: If one refuses it.
        """
        for callback in self._callbacks:
            if callback.is_required and callback.is_enabled(self.context):
                callback.check_run(self.context)

    def start(self) -> None:
        """Lock a run that is trained and start the callbacks; in other processes of torchrun only required ones.

        Raises:
            CheckpointError: If another session trains the run.
            FoundryError: If a callback refuses the run.
        """
        context = self.context
        if context.is_main_process and context.run is not None and context.trains:
            self._lock = RunLock(context.run.folder)
            self._lock.acquire()
        for callback in self._callbacks:
            if context.is_main_process or callback.is_required:
                self._start(callback)
        if not context.is_main_process:
            self._active = []
        elif context.run is not None:
            context.run.subscribe(self._on_checkpoint)

    def notify(self, notify: Callable[[Callback], None]) -> None:
        """Call a method of every callback."""
        for callback in reversed(self._active.copy()):
            try:
                notify(callback)
            except Exception as err:  # what shows or copies a run is no reason to stop it
                self._switch_off(callback, err)

    def is_first_sight(self, entry: str) -> bool:
        """Return whether nothing was announced of a catalog entry yet, and note that something is."""
        is_first = entry not in self._seen
        self._seen.add(entry)
        return is_first

    def end(self, notify: Callable[[Callback], None]) -> None:
        """Call the last method of every callback when all checkpoints are durable, and release the run."""
        self._announce_end(notify)
        self._active = []

    def interrupt(self) -> None:
        """Announce that the process is about to end, when all checkpoints are durable, and release the run.

        In a notebook the process stays: ``close`` closes what is still open then.
        """
        self._announce_end(lambda callback: callback.on_interrupt())

    def close(self) -> None:
        """Close what is open and release the run: it was refused, or an interrupt has stopped it."""
        while self._active:
            with contextlib.suppress(Exception):
                self._active.pop().on_disabled()
        self._release()

    def _start(self, callback: Callback) -> None:
        try:
            self._active.append(callback)
            if callback.is_enabled(self.context):
                callback.on_run_start(self.context)
            else:
                self._active.remove(callback)
        except Exception as err:  # an optional callback is no reason to stop a run
            if callback.is_required:
                self._active.remove(callback)
                raise
            self._switch_off(callback, err)

    def _switch_off(self, callback: Callback, err: Exception) -> None:
        """Call a callback no more after an error; a required one stays, and its errors are logged once."""
        text = f"{type(err).__name__}: {error_message(err)}"
        if callback.is_required:
            if callback.name not in self._warned:
                _log.warning("%s has failed, and is called again for what comes next: %s", callback.name, text)
            self._warned.add(callback.name)
            return
        try:
            self._active.remove(callback)
        except ValueError:  # the thread that writes checkpoints was first
            return
        _log.warning("%s is off for the rest of this run: %s", callback.name, text)
        with contextlib.suppress(Exception):
            callback.on_disabled()

    def _on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:
        self.notify(lambda callback: callback.on_checkpoint(folder, checkpoint))

    def _announce_end(self, notify: Callable[[Callback], None]) -> None:
        if self._active and self.context.run is not None:
            with contextlib.suppress(FoundryError):  # raised where training is
                self.context.run.wait()
        self.notify(notify)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
