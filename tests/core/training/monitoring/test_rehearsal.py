"""The rehearsal before the first step: what it finds, and that it leaves nothing behind."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.core.training.tiny import LENGTH, Letters, TinyTransformer, make_model, make_options, make_splits
from transformer_foundry.core.base.errors import CheckpointError, ModelError, TrainingError
from transformer_foundry.core.checks import Report
from transformer_foundry.core.models import approve, read_export
from transformer_foundry.core.models.options import TASKS
from transformer_foundry.core.training import Checkpoint, Event, Started, TrainingState, add_rehearsal, fit


def line_of(mark: str) -> str:
    """Return the line of this file with the comment ``mark``, as errors name it."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"test_rehearsal.py line {1 + next(i for i, line in enumerate(lines) if line.endswith(f'# {mark}'))} "


class ShortWindow(TinyTransformer):
    """A context limit that no name gives away."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        assert input_ids.size(1) < LENGTH, "too long"  # short window
        return super().forward(input_ids)


class KeepsGraph(TinyTransformer):
    """A recurrent state that is not detached between two steps."""

    state: Tensor | None = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = super().forward(input_ids)
        logits = logits if self.state is None else logits + self.state
        self.state = logits.mean()
        return logits


class Overwrites(TinyTransformer):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = super().forward(input_ids).tanh()  # overwritten
        return logits.mul_(2)


class FailsInEvaluation(TinyTransformer):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = super().forward(input_ids)
        return logits if self.training else logits[:, None, 99]  # evaluation only


class NotFinite(TinyTransformer):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return super().forward(input_ids) * torch.tensor(float("nan"))


class KeepsText(TinyTransformer):
    def get_extra_state(self) -> Any:
        return "text"

    def set_extra_state(self, state: Any) -> None:
        pass


class ForgetsWeights(TinyTransformer):
    """Loads nothing of its own state: resumed training would start from other weights."""

    def load_state_dict(self, *_: Any, **__: Any) -> Any:
        return None


def events(model: torch.nn.Module, task: str = "causal_lm", **changes: Any) -> list[Event]:
    resume_from: TrainingState | None = changes.pop("resume_from", None)
    rehearsal = changes.pop("rehearsal", True)
    options = make_options(**changes)
    splits = make_splits(task)
    return list(fit(model, splits, options, tokenizer=Letters(), resume_from=resume_from, rehearsal=rehearsal))


def final_weights(*args: Any, **changes: Any) -> dict[str, Tensor]:
    *_, last = (event for event in events(*args, **changes) if isinstance(event, Checkpoint))
    return dict(last.state.model)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "token_classification"])
def test_a_rehearsed_run_ends_with_the_same_weights(task: str) -> None:
    plain = final_weights(make_model(task), task, rehearsal=False)
    rehearsed = final_weights(make_model(task), task)
    assert [name for name in plain if not torch.equal(plain[name], rehearsed[name])] == []


@pytest.mark.parametrize("changes", [{"optimizer": "muon", "ema_decay": 0.9}, {"precision": "bf16"}])
def test_a_rehearsed_run_resumes_to_the_same_weights(changes: dict[str, Any]) -> None:
    whole = [e for e in events(make_model(), rehearsal=False, **changes) if isinstance(e, Checkpoint)]
    rest = final_weights(make_model(), resume_from=whole[0].state, **changes)
    last = whole[-1].state.model
    assert [name for name in last if not torch.equal(last[name], rest[name])] == []


def test_weights_gradients_and_random_state_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    model, draws = make_model(), []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    for rehearsal in (True, False):
        stream = fit(model, make_splits(), make_options(), tokenizer=Letters(), rehearsal=rehearsal)
        next(stream)
        draws.append((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()))
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert [name for name, parameter in model.named_parameters() if parameter.grad is not None] == []
    assert draws[0] == draws[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "said", "line"),
    [
        (ShortWindow, rf"too long(.|\n)*rows of {LENGTH} tokens, the longest", "short window"),
        (Overwrites, "inplace", "overwritten"),
        (FailsInEvaluation, "index 99", "evaluation only"),
        (KeepsGraph, "longest row", None),
    ],
)
def test_an_exception_names_the_line_of_the_model(model: type[TinyTransformer], said: str, line: str | None) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        events(model(dropout=0.0))
    assert line is None or line_of(line) in caught.value.problem
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        (NotFinite, TrainingError, "The loss of the first batch is nan before training"),
        (KeepsText, CheckpointError, "_extra_state"),
        (ForgetsWeights, ModelError, "does not take back"),
    ],
)
def test_what_raises_nothing_is_found_too(model: type[TinyTransformer], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        events(model())


def test_the_model_is_as_before_when_the_rehearsal_fails() -> None:
    model = FailsInEvaluation()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError):
        events(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_finished_run_is_not_rehearsed() -> None:
    whole = [event for event in events(make_model()) if isinstance(event, Checkpoint)]
    found = events(NotFinite(), resume_from=whole[-1].state)
    assert len(found) == 1


def report_of(folder: Path, source: str, task: str = "causal_lm") -> Report:
    """The report of the checks that found nothing, with a rehearsal."""
    (folder / "model.py").write_text(source, encoding="utf-8")
    (folder / "config.json").write_text('{"vocab_size": 32, "kind": "decoder-only"}', encoding="utf-8")
    report = Report("decoder-only", (), 0.0)
    return add_rehearsal(report, approve(read_export(folder)), make_splits(task), make_options())


BIGRAM = """
from torch import nn
class Bigram(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(32, 8), nn.Linear(8, 32)
    def forward(self, input_ids):
        assert len(input_ids) != 4, "four rows"
        return self.head(self.embedding(input_ids))
"""


def test_a_rehearsal_on_prepared_data_is_a_finding(tmp_path: Path) -> None:
    (finding,) = report_of(tmp_path, BIGRAM).findings
    assert (finding.check, finding.severity) == ("rehearsal", "error")
    assert finding.where.startswith("model.py:8")
    assert "four rows" in finding.message


@pytest.mark.parametrize(
    ("source", "task"), [(BIGRAM.replace("!= 4", "!= 5"), "causal_lm"), (BIGRAM, "sequence_classification")]
)
def test_a_sound_model_or_data_of_another_task_give_no_finding(tmp_path: Path, source: str, task: str) -> None:
    assert report_of(tmp_path, source, task).findings == ()


def test_only_a_rehearsed_run_from_its_first_step_begins_with_a_sample() -> None:
    first, *rest = events(make_model())
    assert isinstance(first, Started)
    assert len(first.samples) == 1
    assert " >> " in first.samples[0]
    state = next(event for event in rest if isinstance(event, Checkpoint)).state
    assert events(make_model(), resume_from=state)[0].samples == ()
    assert events(make_model(), rehearsal=False)[0].samples == ()
