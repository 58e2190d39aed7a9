"""What is kept and shown of a training that goes back to a checkpoint because its loss is not finite."""

import io
import json

import pytest
import torch

from tests.core.training.tiny import make_model, make_options, make_splits
from tests.hooks.runs import Run
from tests.hooks.tracking.test_wandb_callback import metric_steps
from transformer_foundry.core.training import fit
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of
from transformer_foundry.hooks.drive.callback import DriveCallback
from transformer_foundry.hooks.progress import ProgressCallback
from transformer_foundry.hooks.tracking.wandb_callback import WandbCallback


def train_with_a_fault(run, first, last):
    """Train for 24 steps; in those from ``first`` to ``last`` the model returns NaN."""
    model, calls = make_model(), iter(range(1, 100))

    def spoil(module, _inputs, logits):
        return logits * torch.nan if module.training and first <= next(calls) <= last else logits

    model.register_forward_hook(spoil)
    options = make_options(max_steps=24, save_steps=4, eval_steps=None, max_skipped_steps=10, logging_steps=1)
    run.begin()
    for record in fit(model, make_splits(), options):
        run.save(record)
    run.end()


@pytest.mark.slow
def test_a_return_to_a_checkpoint_leaves_one_row_a_step_everywhere(tmp_path):
    stream, drive = io.StringIO(), tmp_path / "drive"
    hooks = (DriveCallback(), WandbCallback(), ProgressCallback(stream, clock=lambda: 0.0))
    run = Run(tmp_path / "data", *hooks, sections={"drive": {"folder": str(drive)}, "tracking": {"mode": "offline"}})
    train_with_a_fault(run, 7, 16)
    steps = [json.loads(line)["step"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 25)) == metric_steps(run)
    assert step_of(list_checkpoints(run.folder)[-1]) == step_of(list_checkpoints(drive / "gpt")[-1]) == 24
    assert len(json.loads((run.folder / "manifest.json").read_text())["sessions"]) == 1
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if line.startswith(("Training starts", "Training resumes", "Training returns"))] == [
        "Training starts at step 0 of 24.",
        "Training returns to step 4 of 24.",
    ]
    assert " | checkpoint 20" not in lines[-1]
