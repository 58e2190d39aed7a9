"""A training run as a catalog entry: one folder that grows with every record that ``fit`` yields."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import PlotlyPreview  # the annotation by which kedro-viz knows what to draw

from transformer_foundry.core.errors import CheckpointError
from transformer_foundry.core.training.records import Checkpoint, Progress, Record, Started

if TYPE_CHECKING:
    from transformer_foundry.core.training.state import TrainingState

__all__ = ["TrainingRun", "TrainingRunDataset"]

_log = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"
METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"


@dataclass
class TrainingRun:
    """What is known about a run; weights are read when they are asked for.

    Attributes:
        folder: Folder of the run.
        history: Rows of ``metrics.jsonl``: ``step`` and metrics by name.
        samples: Rows of ``samples.jsonl``: ``step`` and a list of texts.
        manifest: How the run came about; empty for a run that has not begun.
        checkpoints: Folders of the finished generations, oldest first.
        notes: What was noticed when checkpoints were read.
    """

    folder: Path
    history: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    manifest: dict[str, Any]
    checkpoints: list[Path]
    notes: list[str] = field(default_factory=list)

    def latest(self) -> TrainingState | None:
        """Return the newest state that is intact, or None if nothing was saved yet.

        Raises:
            CheckpointError: If all are damaged or the newest is of a later format.
        """
        from transformer_foundry.core.training.checkpoints import newest_checkpoint

        return self._read(newest_checkpoint)

    def best(self) -> TrainingState | None:
        """Return the state with the lowest validation loss (the newest without evaluation), or None.

        Raises:
            CheckpointError: If all are damaged or the newest is of a later format.
        """
        from transformer_foundry.core.training.checkpoints import best_checkpoint

        return self._read(best_checkpoint)

    def _read(self, find: Any) -> TrainingState | None:
        from transformer_foundry.core.training.checkpoints import read_checkpoint

        notes: list[str] = []
        folder = find(self.folder, notes)
        for note in notes:
            if note not in self.notes:
                self.notes.append(note)
                _log.warning("%s: %s", self.folder, note)
        return None if folder is None else read_checkpoint(folder, notes)


class TrainingRunDataset(AbstractDataset[Record, TrainingRun]):
    """Saves each record of ``fit`` into the folder of a run, and loads what is there.

    ``Started`` writes ``manifest.json`` and winds the metrics back to the step that training goes on from; ``Progress``
    adds a line to ``metrics.jsonl`` (and ``samples.jsonl``); ``Checkpoint`` writes a generation and deletes old ones.

    Args:
        filepath: Folder of the run.
        keep: Newest checkpoints that are kept besides the best one; None takes ``training.save_total_limit``.
        metadata: Ignored; for users and plugins.
    """

    def __init__(self, *, filepath: str, keep: int | None = None, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._keep = keep
        self.metadata = metadata

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self._folder

    def load(self) -> TrainingRun:
        """Return the run; an empty one if it has not begun."""
        from transformer_foundry.core.training.checkpoints import list_checkpoints
        from transformer_foundry.core.training.metrics_log import read_rows

        return TrainingRun(
            folder=self._folder,
            history=read_rows(self._folder / METRICS_FILE),
            samples=read_rows(self._folder / SAMPLES_FILE),
            manifest=_read_json(self._folder / MANIFEST_FILE),
            checkpoints=list_checkpoints(self._folder),
        )

    def save(self, data: Record) -> None:
        """Keep a record.

        Raises:
            CheckpointError: If the folder cannot be written.
        """
        try:
            if isinstance(data, Started):
                self._start(data)
            elif isinstance(data, Progress):
                self._append(data)
            elif isinstance(data, Checkpoint):
                self._keep_checkpoint(data)
            else:
                raise DatasetError(f"{type(data).__name__} is not a record of training.")
        except OSError as err:
            raise CheckpointError(
                f"The folder of the run {self._folder} cannot be written: {err.strerror or err}.",
                "A folder that can be written, on a disk with free space, was expected.",
                "Mend that, or set data_dir to another disk, and run again: earlier checkpoints are intact.",
            ) from err

    def preview(self) -> PlotlyPreview:
        """Return the loss curves for kedro-viz."""
        from transformer_foundry.core.figures import loss_figure

        return PlotlyPreview(json.loads(loss_figure(self.load().history).to_json()))

    def _start(self, started: Started) -> None:
        from transformer_foundry.core.training.checkpoints import set_aside_after
        from transformer_foundry.core.training.durable import make_folder, replace_text

        make_folder(self._folder)
        manifest = dict(started.manifest)
        if started.resumed:
            earlier = _read_json(self._folder / MANIFEST_FILE)
            manifest["sessions"] = [*earlier.get("sessions", []), *manifest.get("sessions", [])]
        self._wind_back(started.step if started.resumed else -1)
        set_aside_after(self._folder, started.step if started.resumed else -1)
        replace_text(self._folder / MANIFEST_FILE, json.dumps(manifest, indent=2) + "\n")

    def _wind_back(self, step: int) -> None:
        """Leave in the logs what the checkpoint of ``step`` has: later rows come again, lost ones come back."""
        from transformer_foundry.core.training.checkpoints import find_checkpoint
        from transformer_foundry.core.training.durable import write_text
        from transformer_foundry.core.training.metrics_log import rows_up_to

        generation = find_checkpoint(self._folder, step)
        for name in (METRICS_FILE, SAMPLES_FILE):
            kept = None if generation is None else generation / name
            source = kept if kept is not None and kept.is_file() else self._folder / name
            write_text(self._folder / name, rows_up_to(source, step))

    def _append(self, progress: Progress) -> None:
        from transformer_foundry.core.training.metrics_log import append_row

        append_row(self._folder / METRICS_FILE, {"step": progress.step, **progress.metrics})
        if progress.samples:
            append_row(self._folder / SAMPLES_FILE, {"step": progress.step, "samples": list(progress.samples)})

    def _keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        from transformer_foundry.core.training.checkpoints import prune_checkpoints, write_checkpoint

        write_checkpoint(self._folder, checkpoint, [self._folder / METRICS_FILE, self._folder / SAMPLES_FILE])
        keep = self._keep or int(checkpoint.state.options["save_total_limit"])
        prune_checkpoints(self._folder, keep, checkpoint.state.counters.best_step)

    def _exists(self) -> bool:
        from transformer_foundry.core.training.checkpoints import list_checkpoints

        return bool(list_checkpoints(self._folder))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "keep": self._keep}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        _log.warning("%s cannot be read (%s): the run goes on without the list of its earlier sessions.", path, err)
        return {}
    return values if isinstance(values, dict) else {}
