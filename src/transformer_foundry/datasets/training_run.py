"""Kedro dataset of a training run: one folder that grows with every event that ``fit`` yields."""

from __future__ import annotations

import dataclasses
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import Version
from kedro_datasets._typing import PlotlyPreview  # kedro-viz chooses the drawing by this annotation

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.run_paths import LOG_FILES, METRICS_FILE, SAMPLES_FILE
from transformer_foundry.core.training.checkpointing.training_run import TrainingRun
from transformer_foundry.core.training.events import Checkpoint, Event, Progress, Started
from transformer_foundry.datasets.storage.location import local_path, refuse_version

if TYPE_CHECKING:
    from transformer_foundry.core.training.checkpointing.async_writer import CheckpointWriter
    from transformer_foundry.core.training.checkpointing.checkpoint import SessionMark

__all__ = ["TrainingRunDataset"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSession:
    """One session of a run, as the manifest lists it.

    Attributes:
        number: 1 for the first session.
        token: In the names of its checkpoints, so that two sessions on one run overwrite nothing of each other.
        fence: Higher than that of every earlier session; of two checkpoints of one step the higher fence counts.
        step: Optimizer updates done before it.
        lost_steps: Steps that the session before had logged after its last checkpoint.
    """

    number: int
    token: str
    fence: int
    step: int
    lost_steps: int


class TrainingRunDataset(AbstractDataset[Event, TrainingRun]):
    """Saves each event of ``fit`` into the folder of a run, and loads what is there.

    ``Started`` writes ``manifest.json`` and cuts the metrics back to the step that training resumes from; ``Progress``
    adds a line to ``metrics.jsonl`` (and ``samples.jsonl``); ``Checkpoint`` is written in the background, except for
    the last one of a session, for which ``save`` waits. Subscribers learn when a checkpoint is durable.

    The run exists if it is finished, so that ``--only-missing-outputs`` resumes one that was interrupted.

    Args:
        filepath: Folder of the run, on this machine.
        keep: Newest checkpoints that are kept besides the best one; None takes ``training.save_total_limit``.
        fork_from: Run that this one starts from: the name of a folder beside ``filepath``, or the path of a run's
            folder or of one checkpoint.
        version: Refused: a run is resumed.
        metadata: Ignored; for users and plugins.

    Attributes:
        session: This session; None before ``Started``.
        minimum_fence: Fence that this session must exceed: a copy elsewhere may have checkpoints of later sessions.

    Raises:
        ParameterError: If ``filepath`` is not on this machine, or for ``versioned: true``.
    """

    # A thread of this process writes the checkpoints.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        *,
        filepath: str,
        keep: int | None = None,
        fork_from: str | None = None,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder = local_path(
            filepath,
            "A training run needs a folder of this machine: it is appended to, resumed and renamed in place.",
            "Use a local path (data_dir), and let drive.folder copy its checkpoints to Drive or to a mounted bucket.",
        )
        refuse_version(version, f"The run in {filepath} is resumed.", "Remove 'versioned', or set run.name=NEW.")
        self._keep = keep
        self._fork_from = fork_from
        self.metadata = metadata
        self.session: RunSession | None = None
        self.minimum_fence = 0
        self._writer: CheckpointWriter | None = None
        self._listeners: list[Callable[[Path, Checkpoint], None]] = []

    @property
    def fork_from(self) -> str | None:
        """The run that this one starts from, as configured."""
        return self._fork_from

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self._folder

    @property
    def place(self) -> str:
        """What two entries of one run have in common."""
        return str(self._folder.absolute())

    def subscribe(self, listener: Callable[[Path, Checkpoint], None]) -> None:
        """Call ``listener`` with folder and event of each checkpoint once it is durable.

        It is called in the thread that writes, and must return soon.
        """
        self._listeners.append(listener)

    def wait(self) -> None:
        """Wait until every checkpoint that was saved is durable.

        Raises:
            CheckpointError: If one could not be written.
        """
        if self._writer is not None:
            self._writer.wait()

    def load(self) -> TrainingRun:
        """Return the run; an empty one if it has not started."""
        from transformer_foundry.core.files.json_lines import read_rows
        from transformer_foundry.core.training.checkpointing.directory import list_checkpoints
        from transformer_foundry.core.training.checkpointing.run_files import read_run_record

        self.wait()
        if self.session is None:  # what is written now is not restored
            self._restore_files()
        return TrainingRun(
            folder=self._folder,
            history=read_rows(self._folder / METRICS_FILE),
            samples=read_rows(self._folder / SAMPLES_FILE),
            manifest=read_run_record(self._folder),
            checkpoints=list_checkpoints(self._folder),
            fork_from=None if self._fork_from is None else self._folder.parent / self._fork_from,
        )

    def save(self, data: Event) -> None:
        """Save an event.

        Raises:
            CheckpointError: If the folder cannot be written, or has no space for the checkpoints of the run.
        """
        try:
            if isinstance(data, Started):
                self._start(data)
            elif isinstance(data, Progress):
                self._append(data)
            elif isinstance(data, Checkpoint):
                self._save_checkpoint(data)
            else:
                raise DatasetError(f"{type(data).__name__} is not an event of training.")
        except OSError as err:
            raise CheckpointError(
                f"The folder of the run {self._folder} cannot be written: {err.strerror or err}.",
                "A folder that can be written, on a disk with free space, was expected.",
                "Fix that, or set data_dir to another disk, and run again: earlier checkpoints are intact.",
            ) from err

    def preview(self) -> PlotlyPreview:
        """Return the loss curves for kedro-viz."""
        from transformer_foundry.core.reports.training_curves import loss_figure

        return PlotlyPreview(json.loads(loss_figure(self.load().history).to_json()))

    def _start(self, started: Started) -> None:
        from transformer_foundry.core.files.atomic import make_folder
        from transformer_foundry.core.training.checkpointing.async_writer import CheckpointWriter
        from transformer_foundry.core.training.checkpointing.checkpoint import SessionMark
        from transformer_foundry.core.training.checkpointing.directory import highest_fence
        from transformer_foundry.core.training.checkpointing.retention import quarantine_after, require_space

        self.wait()
        make_folder(self._folder)
        step = started.step if started.resumed else -1
        lost_steps = self._cut_logs(step)
        quarantine_after(self._folder, step)
        if self.session is not None:
            return  # training has returned to a checkpoint: the session is the same
        manifest = dict(started.manifest)
        training = manifest.get("parameters", {}).get("training", {})
        keep_last = self._keep or int(training.get("save_total_limit", 1))
        require_space(self._folder, int(manifest.get("checkpoint_bytes", 0)), keep_last)
        fence = 1 + max(highest_fence(self._folder), self.minimum_fence)
        mark = SessionMark(uuid.uuid4().hex[:6], fence)
        self._write_manifest(self._join(manifest, started, mark, lost_steps))
        self._writer = CheckpointWriter(self._folder, self._logs, session=mark, on_saved=self._announce)

    def _join(self, manifest: dict[str, Any], started: Started, mark: SessionMark, lost_steps: int) -> dict[str, Any]:
        """Return the manifest with the earlier sessions of the run, and more about this one."""
        from transformer_foundry.core.training.checkpointing.run_files import read_run_record

        earlier = read_run_record(self._folder) if started.resumed else {}
        sessions = [*earlier.get("sessions", []), *manifest.get("sessions", [{}])]
        self.session = RunSession(len(sessions), mark.token, mark.fence, started.step, lost_steps)
        manifest["sessions"] = [*sessions[:-1], {**sessions[-1], **dataclasses.asdict(self.session)}]
        if started.is_finished and earlier.get("result", {}).get("step") == started.step:
            manifest["result"] = earlier["result"]
        return manifest

    def _cut_logs(self, step: int) -> int:
        """Give the logs the rows of the checkpoint of ``step``: later rows come again, lost ones come back.

        Returns:
            How many steps were logged after the checkpoint.
        """
        from transformer_foundry.core.files.atomic import write_text
        from transformer_foundry.core.files.json_lines import read_rows, rows_up_to
        from transformer_foundry.core.training.checkpointing.directory import find_checkpoint

        rows = read_rows(self._folder / METRICS_FILE)
        checkpoint = find_checkpoint(self._folder, step)
        for log in self._logs:
            kept = None if checkpoint is None else checkpoint / log.name
            write_text(log, rows_up_to(kept if kept is not None and kept.is_file() else log, step))
        return max(0, rows[-1]["step"] - step) if rows and step >= 0 else 0

    def _append(self, progress: Progress) -> None:
        from transformer_foundry.core.files.json_lines import append_row

        if self._writer is not None:
            self._writer.check()
        append_row(self._folder / METRICS_FILE, {"step": progress.step, **progress.metrics})
        if progress.samples:
            append_row(self._folder / SAMPLES_FILE, {"step": progress.step, "samples": list(progress.samples)})

    def _save_checkpoint(self, checkpoint: Checkpoint) -> None:
        from transformer_foundry.core.training.checkpointing.async_writer import CheckpointWriter

        if self._writer is None:
            self._writer = CheckpointWriter(self._folder, self._logs, on_saved=self._announce)
        self._writer.submit(checkpoint, self._keep or int(checkpoint.state.options["save_total_limit"]))
        if checkpoint.reason in ("end", "interrupt"):
            self._writer.wait()

    def _announce(self, folder: Path, checkpoint: Checkpoint) -> None:
        from transformer_foundry.core.training.checkpointing.run_files import read_run_record, result_of

        if checkpoint.reason == "end":
            self._write_manifest({**read_run_record(self._folder), "result": result_of(folder)})
        for listener in self._listeners:
            listener(folder, checkpoint)

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        from transformer_foundry.core.training.checkpointing.run_files import write_run_record

        write_run_record(self._folder, manifest)

    def _restore_files(self) -> None:
        from transformer_foundry.core.training.checkpointing.run_files import restore_run_files

        try:
            restore_run_files(self._folder)
        except OSError as err:  # a folder that may only be read
            _log.warning("%s cannot be restored: %s.", self._folder, err.strerror or err)

    @property
    def _logs(self) -> list[Path]:
        return [self._folder / name for name in LOG_FILES]

    def is_readable(self) -> bool:
        """Return whether there is a checkpoint, also of a run that was interrupted."""
        from transformer_foundry.core.training.checkpointing.directory import list_checkpoints

        return bool(list_checkpoints(self._folder))

    def _exists(self) -> bool:
        from transformer_foundry.core.files.folder_manifest import has_sizes
        from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of
        from transformer_foundry.core.training.checkpointing.run_files import read_run_record

        checkpoints = list_checkpoints(self._folder)
        if not checkpoints:
            return False
        manifest = read_run_record(self._folder)
        # "result" names the step at which training ended: by its steps, its hours or its patience.
        end = manifest.get("result", {}).get("step", manifest.get("total_steps"))
        return isinstance(end, int) and step_of(checkpoints[-1]) >= end and has_sizes(checkpoints[-1])

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "keep": self._keep, "fork_from": self._fork_from}
