"""What is done under faults: saves, copies to Drive, and a whole training with a Drive that fails."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch

from tests.core.training.tiny import make_model, make_options, make_splits
from tests.hooks.runs import Run, make_checkpoint
from transformer_foundry.core.training import Checkpoint, fit, newest_checkpoint, read_checkpoint, write_checkpoint
from transformer_foundry.core.training.checkpointing.directory import find_checkpoint
from transformer_foundry.core.training.checkpointing.retention import prune_checkpoints, quarantine_after
from transformer_foundry.hooks.drive.callback import DriveCallback
from transformer_foundry.hooks.drive.checkpoint_sync import CheckpointSync
from transformer_foundry.hooks.drive.file_sync import FileSync

SIZE = 5000
"""Numbers in a weight: enough for several blocks of a file."""


def weights_are(folder: Path, step: int) -> bool:
    return bool((read_checkpoint(folder).model["weight"] == torch.full((SIZE,), float(step))).all())


class Save:
    """A checkpoint is saved beside an earlier one, which is then deleted."""

    def __init__(self, root: Path) -> None:
        self.faulty = root / "run"
        self.earlier = [2]
        make_checkpoint(1)  # trained once, here: forks inherit it

    def set_up(self) -> None:
        shutil.rmtree(self.faulty, ignore_errors=True)
        self.faulty.mkdir()
        (self.faulty / "metrics.jsonl").write_text('{"step": 2}\n{"step": 4}\n')
        for step in self.earlier:
            write_checkpoint(self.faulty, make_checkpoint(step, SIZE), [self.faulty / "metrics.jsonl"])

    def act(self) -> None:
        write_checkpoint(self.faulty, make_checkpoint(4, SIZE), [self.faulty / "metrics.jsonl"])
        prune_checkpoints(self.faulty, keep_last=1)

    def verify(self) -> None:
        newest = newest_checkpoint(self.faulty)
        step = 0 if newest is None else read_checkpoint(newest).step
        assert step in (*(self.earlier or [0]), 4), step
        assert newest is None or weights_are(newest, step)
        quarantine_after(self.faulty, step)
        self.act()
        again = newest_checkpoint(self.faulty)
        assert again is not None
        assert weights_are(again, 4), "the save cannot be made again"


class FirstSave(Save):
    """There is nothing before the checkpoint that is saved."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.earlier = []


class DriveCopy:
    """Checkpoints and tokens are copied; then the machine is gone, and only the copy is left."""

    def __init__(self, root: Path) -> None:
        self.local, self.faulty, self.restored = root / "local", root / "drive", root / "restored"
        self.tokens = self.local / "tokens" / "ids.bin"
        make_checkpoint(1)

    def set_up(self) -> None:
        for folder in (self.local, self.faulty, self.restored):
            shutil.rmtree(folder, ignore_errors=True)
        self.faulty.mkdir()
        self.tokens.parent.mkdir(parents=True)
        for step in (2, 4):
            self.tokens.write_bytes(bytes([step]) * SIZE)
            write_checkpoint(self.local / "run", make_checkpoint(step, SIZE))
            if step == 2:
                self.act()

    def act(self) -> None:
        CheckpointSync(self.local / "run", self.faulty / "run").update(True)
        kept = FileSync(self.local, self.faulty / "files")
        kept.note(self.tokens.parent)
        kept.update()

    def verify(self) -> None:
        CheckpointSync(self.restored / "run", self.faulty / "run").restore()
        newest = newest_checkpoint(self.restored / "run")
        assert newest is not None, "no checkpoint is left"
        assert weights_are(newest, read_checkpoint(newest).step), "wrong weights"
        kept = FileSync(self.restored, self.faulty / "files")
        assert kept.restore(self.restored / "tokens"), "no tokens are left"
        assert (self.restored / "tokens" / "ids.bin").read_bytes() in (bytes([2]) * SIZE, bytes([4]) * SIZE)


class Training:
    """A run is trained with copies on a Drive that fails: its weights are those of a run without one."""

    def __init__(self, root: Path) -> None:
        self.root, self.faulty = root, root / "drive"
        self.splits = make_splits()
        self.expected = self._train(root / "alone", folder=None)

    def set_up(self) -> None:
        for folder in (self.root / "data", self.faulty):
            shutil.rmtree(folder, ignore_errors=True)
        self.faulty.mkdir()
        # A session before: what cannot be reached at the very start of a run is refused, not gone on without.
        run = self._run(self.root / "data", None)
        run.begin()
        for record in fit(make_model(), self.splits, make_options(max_steps=8)):
            run.save(record)
            if isinstance(record, Checkpoint):
                break
        run.end()

    def act(self) -> None:
        self._train(self.root / "data", self.faulty)

    def verify(self) -> None:
        assert self._digest(self.root / "data") == self.expected, "other weights"

    def _run(self, data_dir: Path, folder: Path | None) -> Run:
        return Run(data_dir, DriveCallback(), sections={"drive": {"folder": None if folder is None else str(folder)}})

    def _train(self, data_dir: Path, folder: Path | None) -> str:
        run = self._run(data_dir, folder)
        run.begin(inputs=("previous_run",))
        state = run.dataset.load().latest()
        for record in fit(make_model(), self.splits, make_options(max_steps=8), resume_from=state):
            run.save(record)
        run.end()
        return self._digest(data_dir)

    def _digest(self, data_dir: Path) -> str:
        folder = find_checkpoint(data_dir / "06_models" / "gpt", 8)
        assert folder is not None, "training did not come to its end"
        names = ("weights.safetensors", "optimizer.safetensors")
        return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()


PLANS: dict[str, Any] = {"first-save": FirstSave, "save": Save, "drive": DriveCopy, "training": Training}
