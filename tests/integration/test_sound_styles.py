"""Sound models in public styles pass the checks, train, are evaluated and sampled, resume and are exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.core.models.sound_styles import STYLES, write_style
from tests.core.training.tiny import LENGTH, PAD, Letters, make_options, make_splits
from transformer_foundry.core.checks import run_checks
from transformer_foundry.core.export.exporter import export_model
from transformer_foundry.core.export.verification.reference_inputs import compared_by, reference_inputs
from transformer_foundry.core.models import Adapter, ModelSource, load_model, read_export
from transformer_foundry.core.training import Checkpoint, Progress, TrainingState, fit


def train(adapter: Adapter, state: TrainingState | None = None) -> tuple[list[Checkpoint], list[Progress]]:
    # Samples are longer than the window, which therefore moves.
    options = make_options(max_steps=4, logging_steps=2, save_steps=2, sample_tokens=LENGTH, num_samples=1)
    splits = make_splits(adapter.contract.task)
    events = list(fit(adapter, splits, options, tokenizer=Letters(), resume_from=state, rehearsal=True))
    checkpoints = [event for event in events if isinstance(event, Checkpoint)]
    return checkpoints, [event for event in events if isinstance(event, Progress)]


def resumed_weights(export: ModelSource, state: TrainingState) -> dict[str, torch.Tensor]:
    checkpoints, _ = train(load_model(export), state)
    return dict(checkpoints[-1].state.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", STYLES)
def test_a_sound_model_passes_and_is_trained_resumed_and_exported(name: str, tmp_path: Path) -> None:
    export = read_export(write_style(tmp_path / "export", name))
    report = run_checks(export)
    assert [(finding.check, finding.message) for finding in report.problems] == []
    adapter = load_model(export)
    checkpoints, progress = train(adapter)
    assert "eval/loss" in progress[-1].metrics
    assert len(progress[-1].samples) == 1
    last, resumed = checkpoints[-1].state.model, resumed_weights(export, checkpoints[0].state)
    assert [key for key in last if not torch.equal(last[key], resumed[key])] == []
    contract = adapter.contract
    manifest = export_model(
        adapter,
        reference_inputs(contract, PAD, [PAD]),
        tmp_path / "package",
        ["pytorch"],
        max_length=contract.max_length,
        compared=compared_by(contract, PAD),
    )
    assert manifest["formats"][0]["status"] == "verified", manifest["formats"][0]
