"""Copy what a run makes to ``drive.folder`` in the background, and restore from there what is missing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.config.drive_folder import find_folder
from transformer_foundry.config.hook_options import DriveOptions
from transformer_foundry.console.status_line import in_notebook
from transformer_foundry.core.system.process import is_only_process
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext, earlier_entries

if TYPE_CHECKING:
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.core.training.events import Checkpoint, Started
    from transformer_foundry.datasets import TrainingRunDataset
    from transformer_foundry.hooks.drive.background_sync import BackgroundSync
    from transformer_foundry.hooks.drive.checkpoint_sync import CheckpointSync
    from transformer_foundry.hooks.drive.file_sync import FileSync
    from transformer_foundry.hooks.drive.lease import Lease
    from transformer_foundry.hooks.drive.mount import DriveRoot
    from transformer_foundry.hooks.drive.trial_sync import TrialSync

__all__ = ["DriveCallback"]

_log = logging.getLogger(__name__)


class DriveCallback(Callback):
    """Keeps a copy of a run in ``<drive.folder>/<run.name>`` and of everything else in ``<drive.folder>/files``.

    A lease in the copy ensures that only one machine at a time trains the run.
    """

    name = "The copy to Drive"
    is_required = True
    nesting = 20

    def __init__(self) -> None:
        self._context: RunContext | None = None
        self._root: DriveRoot | None = None
        self._lease: Lease | None = None
        self._background: BackgroundSync | None = None
        self._checkpoints: CheckpointSync | None = None
        self._files: FileSync | None = None
        self._trials: TrialSync | None = None

    def on_run_start(self, context: RunContext) -> None:
        """Take the lease, and restore what the copy has and this machine has not; later callbacks find it there.

        Raises:
            CheckpointError: If another machine trains the run; or if the run's folder has no intact checkpoint, and the
                copy cannot be read or written or has only damaged ones.
        """
        self._context = context
        if context.is_main_process:
            options = context.options(DriveOptions)
            if (folder := find_folder(options.folder)) is not None:
                self._start(folder, options, context)
        if context.trains and not is_only_process():
            _wait_for_all_processes(context.options(TrainingOptions))

    def on_file_saved(self, path: Path) -> None:
        """Have the file or folder copied."""
        if self._background is not None and self._files is not None:
            self._files.note(path)
            self._background.request()

    def on_started(self, started: Started) -> None:
        """Have copied what the last session did not come to copy."""
        self._request()

    def on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:
        """Have the checkpoint copied."""
        self._request()

    def on_run_end(self) -> None:
        """Wait for the last copy."""
        self._finish()

    def on_run_error(self, error: Exception) -> None:
        """Wait for the last copy: what was saved before the error is worth keeping."""
        self._finish()

    def on_interrupt(self) -> None:
        """Wait for the last copy, after SIGTERM for seconds only, and let another machine continue the run.

        A notebook does not wait: its process stays, and copies in the background.
        """
        if not in_notebook():
            self._finish()

    def on_disabled(self) -> None:
        """Release the run."""
        self._finish()

    def _request(self) -> None:
        if self._background is not None:
            self._background.request()

    def _start(self, folder: Path, options: DriveOptions, context: RunContext) -> None:
        from transformer_foundry.hooks.drive.background_sync import BackgroundSync
        from transformer_foundry.hooks.drive.file_sync import FileSync
        from transformer_foundry.hooks.drive.mount import DriveRoot

        self._root = root = DriveRoot(folder)
        self._files = files = FileSync(context.data_dir, folder / "files", root.check)
        self._background = background = BackgroundSync(folder, self._update, root.check)
        if context.run is not None:
            root.use(folder / context.paths.name)
            self._start_run(folder / context.paths.name, options, context.run, context.trains, background)
        if context.study is not None:
            self._start_search(context.study.path, files, background)
        _restore_files(files, context, background)
        if self._trials is not None:
            background.request()  # from now on it looks every few seconds

    def _start_search(self, study: Path, files: FileSync, background: BackgroundSync) -> None:
        """Bring back the paused trials of a search, before its study, which lists them."""
        from transformer_foundry.core.base.errors import CheckpointError, TuningError
        from transformer_foundry.core.studies.tuning.storage.study_copies import restore_study, set_aside
        from transformer_foundry.hooks.drive.trial_sync import PAUSED_FOLDER, TrialSync

        paused = study.parent / PAUSED_FOLDER
        copies = files.copies_of(paused)
        assert self._root is not None
        self._root.use(copies)
        self._trials = TrialSync(paused, copies, files.check)
        try:
            restore_study(study)
        except TuningError as err:  # no copy on this machine: that of Drive takes its place
            if not files.has_copy(study):
                raise
            _log.warning("%s It is kept as %s.", err.problem, set_aside(study).name)
        try:
            if not study.exists() and (count := self._trials.restore()):
                _log.info("Restored from %s: %d paused trial%s.", copies, count, "" if count == 1 else "s")
        except (OSError, CheckpointError) as err:  # the trials start again
            background.report(err)

    def _start_run(
        self,
        copy_folder: Path,
        options: DriveOptions,
        run: TrainingRunDataset,
        trains: bool,
        background: BackgroundSync,
    ) -> None:
        from transformer_foundry.hooks.drive.checkpoint_sync import CheckpointSync
        from transformer_foundry.hooks.drive.lease import Lease

        assert self._root is not None
        rate, check = options.upload_mb_per_s * 1e6, self._root.check
        self._checkpoints = CheckpointSync(run.folder, copy_folder, upload_bytes_per_s=rate, check=check)
        self._lease = Lease(copy_folder, check=check) if trains else None
        for attempt in ("first", "second"):
            try:
                self._restore_run(run, self._checkpoints)
                break
            except OSError as err:
                # One failed call is common on Drive and means nothing; a checkpoint that is not found loses hours.
                if attempt == "first":
                    continue
                if self._checkpoints.newest_local_step() is None:
                    raise _unreachable(copy_folder, run.folder, err) from err
                background.report(err)

    def _restore_run(self, run: TrainingRunDataset, checkpoints: CheckpointSync) -> None:
        checkpoints.check()
        if self._lease is not None and not self._lease.is_held and (taken_over := self._lease.acquire()) is not None:
            _log.warning(taken_over)
        restored = checkpoints.restore()
        if restored is not None:
            _log.info(restored)
        run.minimum_fence = checkpoints.highest_fence

    def _update(self, is_last: bool) -> float | None:
        """Copy what is missing in the copy, in the background thread; checkpoints first, which are worth most."""
        from transformer_foundry.hooks.drive.trial_sync import POLL_S

        assert self._files is not None
        assert self._context is not None
        assert self._root is not None
        try:
            self._root.check()
        except OSError:  # what was acknowledged before may be lost
            self._files.forget()
            if self._checkpoints is not None:
                self._checkpoints.forget()
            raise
        pauses = [self._update_run(is_last)]
        if self._trials is not None and self._context.study is not None:
            pauses.append(POLL_S)
            if self._trials.update():
                self._files.note(self._context.study.path)
        if is_last:
            # The report is no catalog entry; it is written at the end, also of a command that was stopped.
            self._files.note(self._context.paths.report)
        self._files.update()
        return min((pause for pause in pauses if pause is not None), default=None)

    def _update_run(self, is_last: bool) -> float | None:
        from transformer_foundry.hooks.drive.lease import HEARTBEAT_S

        if self._lease is None or self._checkpoints is None or not self._lease.renew():
            return None
        return min(self._checkpoints.update(is_last) or HEARTBEAT_S, HEARTBEAT_S)

    def _finish(self) -> None:
        background, self._background = self._background, None
        try:
            if background is not None:
                self._copy_last(background)
        finally:  # a second Ctrl-C may end the wait
            if self._lease is not None:
                self._lease.release()
            self._lease = self._checkpoints = self._files = self._trials = None

    def _copy_last(self, background: BackgroundSync) -> None:
        assert self._context is not None
        is_complete = background.finish()
        step = None if self._checkpoints is None else self._checkpoints.verified_step
        if is_complete and step is not None:
            _log.info("Checkpoints are copied to Drive and verified up to step %d.", step)
        elif not is_complete:
            _log.warning("The last files are only in %s: not copied to Drive.", self._context.data_dir)


def _wait_for_all_processes(options: TrainingOptions) -> None:
    """Let the other processes of torchrun wait for what the first has restored before they read it."""
    from transformer_foundry.core.system.distributed import join_processes
    from transformer_foundry.core.system.precision import choose_precision

    device = choose_precision(options.device).device
    join_processes(device, 60 * options.process_timeout_minutes).all_gather(None)


def _restore_files(files: FileSync, context: RunContext, background: BackgroundSync) -> None:
    """Bring back what the pipeline reads or may keep, and the reports of earlier commands, which the report shows."""
    kept = {name for node in context.pipeline.nodes for name in earlier_entries(node)}
    read, paths = context.pipeline.inputs() | kept, context.files
    reports = {context.paths.reports, context.paths.shared_reports}
    earlier = {name for name, path in paths.items() if name in context.results or not reports.isdisjoint(path.parents)}
    try:
        restored = [name for name in sorted(read & paths.keys()) if files.restore(paths[name])]
        others = sorted(earlier - context.pipeline.all_outputs() - read)
        count = sum(files.restore(paths[name]) for name in others)
    except OSError as err:
        background.report(err)
        return
    restored += [f"{count} report{'' if count == 1 else 's'}"] if count else []
    if restored:
        _log.info("Restored from %s: %s.", background.copy_folder, ", ".join(restored))


def _unreachable(copy_folder: Path, run_folder: Path, err: OSError) -> CheckpointError:
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.hooks.drive.verified_copy import problem_of

    return CheckpointError(
        f"{copy_folder} cannot be read and written: {problem_of(err)}. {run_folder} has no checkpoint.",
        "Earlier checkpoints may be in that copy: training that starts without them does their work again.",
        "Mount Drive (in Colab: from google.colab import drive; drive.mount('/content/drive')) or fix the folder, "
        "and run again; or start without it: drive.folder=null.",
    )
