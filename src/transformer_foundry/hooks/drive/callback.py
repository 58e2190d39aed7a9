"""Drive: what is made is copied to ``drive.folder`` in the background, and what is missing is restored from there."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from transformer_foundry.config.hook_options import DriveOptions
from transformer_foundry.core.base.options import parse_options
from transformer_foundry.core.system.process import is_main_process, is_only_process

if TYPE_CHECKING:
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.core.files.lock import RunLock
    from transformer_foundry.hooks.drive.background_sync import BackgroundSync
    from transformer_foundry.hooks.drive.checkpoint_sync import CheckpointSync
    from transformer_foundry.hooks.drive.file_sync import FileSync
    from transformer_foundry.hooks.drive.lease import Lease
    from transformer_foundry.hooks.drive.trial_sync import TrialSync

__all__ = ["DriveHooks"]

_log = logging.getLogger(__name__)

RUN_ENTRIES = frozenset({"previous_run", "training_run"})

REPORTS_FOLDER = "08_reporting"
"""Of the data folder: what is in it is small, and ``report.html`` shows all of it."""


class DriveHooks:
    """Keeps a copy of a run in ``<drive.folder>/<run.name>`` and of everything else in ``<drive.folder>/files``.

    It also sees to it that only one session at a time trains a run, with a copy or without.
    """

    def __init__(self) -> None:
        self._parameters: Mapping[str, Any] = {}
        self._catalog_config: Mapping[str, Any] = {}
        self._paths: Mapping[str, Path] = {}
        self._lock: RunLock | None = None
        self._lease: Lease | None = None
        self._mirror: BackgroundSync | None = None
        self._run_copy: CheckpointSync | None = None
        self._files: FileSync | None = None
        self._paused: TrialSync | None = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters and the catalog's configuration."""
        self._parameters = context.config_loader["parameters"]
        self._catalog_config = context.config_loader["catalog"]

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Lock the run, and restore what the copy has and this machine has not; others then find it there.

        Raises:
            CheckpointError: If another session trains the run; or if the run's folder has no intact checkpoint, and the
                copy cannot be read or written or has only damaged ones.
        """
        self._finish()
        trains = "training_run" in pipeline.all_outputs()
        if is_main_process():
            self._open(pipeline, catalog, trains)
        if trains and not is_only_process():
            self._meet_the_others()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Have what was saved copied, and at the start of training what the last session did not come to copy."""
        if self._mirror is None:
            return
        from transformer_foundry.core.training.events import Started

        if dataset_name in self._paths and self._files is not None:
            self._files.note(self._paths[dataset_name])
            self._mirror.request()
        elif dataset_name == "training_run" and isinstance(data, Started):
            self._mirror.request()

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Wait for the last copy."""
        self._finish()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Wait for the last copy: what was saved before the error is worth keeping."""
        self._finish()

    def _open(self, pipeline: Pipeline, catalog: CatalogProtocol, trains: bool) -> None:
        options = parse_options(DriveOptions, self._parameters.get("drive"), "drive")
        run: Any = catalog.get("training_run") if not pipeline.datasets().isdisjoint(RUN_ENTRIES) else None
        if trains:
            self._take_lock(run.folder)
        if (folder := find_folder(options.folder)) is not None:
            self._begin(folder, options, pipeline, run, trains)

    def _meet_the_others(self) -> None:
        """Let the other processes of torchrun wait for what the first has restored before they read it."""
        from transformer_foundry.core.system.distributed import join_processes
        from transformer_foundry.core.system.precision import choose_precision
        from transformer_foundry.core.training.options import TrainingOptions

        training = parse_options(TrainingOptions, self._parameters.get("training"), "training")
        join_processes(choose_precision(training.device).device).all_gather(None)

    def _take_lock(self, run_folder: Path) -> None:
        from transformer_foundry.core.files.lock import RunLock

        self._lock = RunLock(run_folder)
        self._lock.acquire()

    def _begin(self, folder: Path, options: DriveOptions, pipeline: Pipeline, run: Any, trains: bool) -> None:
        from transformer_foundry.hooks.drive.background_sync import BackgroundSync
        from transformer_foundry.hooks.drive.file_sync import FileSync, paths_of_catalog

        data_dir = Path(self._parameters["data_dir"])
        self._paths = paths_of_catalog(self._catalog_config, data_dir)
        self._files = FileSync(data_dir, folder / "files")
        self._mirror = BackgroundSync(folder, self._update)
        if run is not None:
            self._begin_run(folder / self._parameters["run"]["name"], options, run, trains)
        if "study" in pipeline.all_outputs() & self._paths.keys():
            self._begin_search(self._paths["study"])
        self._restore_files(folder, pipeline)
        if self._paused is not None:
            self._mirror.request()  # it looks again and again from now on

    def _begin_search(self, study: Path) -> None:
        """Bring back the paused trials of a search, before its study, which says that they are paused."""
        from transformer_foundry.core.base.errors import CheckpointError
        from transformer_foundry.hooks.drive.trial_sync import PAUSED_FOLDER, TrialSync

        assert self._mirror is not None
        assert self._files is not None
        paused = study.parent / PAUSED_FOLDER
        copies = self._files.copy_folder / paused.relative_to(Path(self._parameters["data_dir"]))
        self._paused = TrialSync(paused, copies)
        try:
            if not study.exists() and (count := self._paused.restore()):
                _log.info("Restored from %s: %d paused trial%s.", copies, count, "" if count == 1 else "s")
        except (OSError, CheckpointError) as err:  # they begin again
            self._mirror.report(err)

    def _begin_run(self, copy_folder: Path, options: DriveOptions, run: Any, trains: bool) -> None:
        from transformer_foundry.hooks.drive.checkpoint_sync import CheckpointSync
        from transformer_foundry.hooks.drive.lease import Lease

        assert self._mirror is not None
        self._run_copy = CheckpointSync(run.folder, copy_folder, upload_bytes_per_s=options.upload_mb_per_s * 1e6)
        self._lease = Lease(copy_folder) if trains else None
        for attempt in ("first", "second"):
            try:
                self._restore_run(run)
                break
            except OSError as err:
                # One failed call is common on Drive and means nothing; a checkpoint that is not found loses hours.
                if attempt == "first":
                    continue
                if self._run_copy.newest_local_step() is None:
                    raise _unreachable(copy_folder, run.folder, err) from err
                self._mirror.report(err)
        run.subscribe(lambda *_: self._mirror.request() if self._mirror is not None else None)

    def _restore_run(self, run: Any) -> None:
        assert self._run_copy is not None
        self._run_copy.check()
        if self._lease is not None and not self._lease.is_held and (taken_over := self._lease.acquire()) is not None:
            _log.warning(taken_over)
        restored = self._run_copy.restore()
        if restored is not None:
            _log.info(restored)
        run.minimum_fence = self._run_copy.highest_fence

    def _restore_files(self, folder: Path, pipeline: Pipeline) -> None:
        """Bring back what the pipeline reads, and the reports of earlier commands, which ``report.html`` shows."""
        assert self._mirror is not None
        reports = Path(self._parameters["data_dir"]) / REPORTS_FOLDER
        earlier = {name for name, path in self._paths.items() if reports in path.parents} - pipeline.all_outputs()
        read = pipeline.inputs()
        try:
            restored = [name for name in sorted(read) if self._restore_file(name)]
            count = sum(self._restore_file(name) for name in sorted(earlier - read))
        except OSError as err:
            self._mirror.report(err)
            return
        restored += [f"{count} report{'' if count == 1 else 's'}"] if count else []
        if restored:
            _log.info("Restored from %s: %s.", folder, ", ".join(restored))

    def _restore_file(self, name: str) -> bool:
        assert self._files is not None
        return name in self._paths and self._files.restore(self._paths[name])

    def _update(self, is_last: bool) -> float | None:
        """What the background thread does at each request; checkpoints first, which are worth most."""
        from transformer_foundry.hooks.drive.trial_sync import POLL_S
        from transformer_foundry.hooks.drive.verified_copy import check_mounted

        assert self._files is not None
        check_mounted(self._files.copy_folder)
        pauses = [self._update_run(is_last)]
        if self._paused is not None:
            pauses.append(POLL_S)
            if self._paused.update():
                self._files.note(self._paths["study"])
        if is_last:
            self._files.note(self._report())
        self._files.update()
        return min((pause for pause in pauses if pause is not None), default=None)

    def _update_run(self, is_last: bool) -> float | None:
        from transformer_foundry.hooks.drive.lease import HEARTBEAT_S

        if self._lease is None or self._run_copy is None or not self._lease.beat():
            return None
        return min(self._run_copy.update(is_last) or HEARTBEAT_S, HEARTBEAT_S)

    def _report(self) -> Path:
        """Another hook writes it at the end of the command, also of one that was stopped."""
        return Path(self._parameters["data_dir"]) / REPORTS_FOLDER / self._parameters["run"]["name"] / "report.html"

    def _finish(self) -> None:
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            is_complete = mirror.finish()
            step = None if self._run_copy is None else self._run_copy.verified_step
            if is_complete and step is not None:
                _log.info("Checkpoints are copied to Drive and verified up to step %d.", step)
            elif not is_complete:
                _log.warning("The last files are only in %s: not copied to Drive.", self._parameters["data_dir"])
        if self._lease is not None:
            self._lease.release()
        if self._lock is not None:
            self._lock.release()
        self._lease = self._lock = self._run_copy = self._files = self._paused = None
        self._paths = {}


def find_folder(folder: str | None) -> Path | None:
    """Return the folder for copies: ``auto`` is one on Google Drive where that is mounted."""
    from transformer_foundry.hooks.drive import verified_copy

    if folder != "auto":
        return None if folder is None else Path(folder).expanduser()
    drive = verified_copy.COLAB_MOUNT / "MyDrive"
    return drive / "transformer-foundry" if os.path.ismount(verified_copy.COLAB_MOUNT) and drive.is_dir() else None


def _unreachable(copy_folder: Path, run_folder: Path, err: OSError) -> CheckpointError:
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.hooks.drive.verified_copy import problem_of

    return CheckpointError(
        f"{copy_folder} cannot be read and written: {problem_of(err)}. {run_folder} has no checkpoint.",
        "Earlier checkpoints may be in that copy: training that starts without them does their work again.",
        "Mount Drive (in Colab: from google.colab import drive; drive.mount('/content/drive')) or mend the folder, "
        "and run again; or start without it: drive.folder=null.",
    )
