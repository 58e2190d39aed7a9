from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.training.tiny import TinyTransformer, checkpoints, make_options, make_splits, run
from transformer_foundry.core.data.dataloading.batches import training_batches
from transformer_foundry.core.models import task_loss_for
from transformer_foundry.core.system.precision import choose_precision
from transformer_foundry.core.training import Started, fit
from transformer_foundry.core.training.compile import Compilation, compile_if_worthwhile, compile_loss
from transformer_foundry.core.training.train_step import TrainStep

CPU = choose_precision("cpu", "fp32")
BATCH = training_batches(make_splits(), batch_size=4, seed=0).batch(0)


def note_of(records: list) -> str:
    assert isinstance(records[0], Started)
    return " ".join(records[0].notes)


def test_a_short_run_is_not_compiled_by_itself() -> None:
    records = run(compile="auto")
    assert "Not compiled" in note_of(records)
    assert checkpoints(records)[-1].state.decisions.is_compiled is False


def test_the_decision_holds_for_all_sessions_of_a_run() -> None:
    state = checkpoints(run(compile="auto"))[0].state
    resumed = list(fit(TinyTransformer(), make_splits(), make_options(compile="auto"), resume_from=state))
    assert "compiled" not in note_of(resumed).lower()


class Bag(nn.Module):
    """Quick to compile: every token sees itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(32, 16)
        self.head = nn.Linear(16, 32)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.embedding(input_ids))


@pytest.mark.slow
def test_a_compiled_run_learns_what_the_plain_one_does() -> None:
    changes = {"max_steps": 6, "save_epochs": False, "eval_steps": None}
    plain = run(Bag(), **changes)
    compiled = run(Bag(), **changes, compile="on")
    assert "Compiled with torch.compile" in note_of(compiled)
    expected, found = (checkpoints(records)[-1].state.model["head.weight"] for records in (plain, compiled))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


class Untranslatable(Bag):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = super().forward(input_ids)
        # What is computed depends on who asks.
        return logits * 2 if torch.compiler.is_compiling() else logits


def test_model_and_loss_are_one_graph() -> None:
    step = TrainStep(Bag(), task_loss_for("causal_lm"), [], CPU, torch.amp.GradScaler(enabled=False))
    explained = torch._dynamo.explain(step.loss)(BATCH)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
    assert any("cross_entropy" in str(node.target) for node in explained.graphs[0].graph.nodes)


@pytest.mark.slow
def test_what_is_no_faster_compiled_is_not_compiled_by_itself() -> None:
    """A pass of three tokens costs its overhead only, and the guards of a compiled function add to it."""
    model = Bag()
    tiny = {name: tensor[:1, :3] for name, tensor in BATCH.items()}
    step = TrainStep(model, task_loss_for("causal_lm"), [], CPU, torch.amp.GradScaler(enabled=False))

    def compiled(**changes: Any) -> Compilation:
        settings = {"mode": "auto", "decided": None, "changes_passes": False, "passes_left": 10**9, "left_s": None}
        return compile_if_worthwhile(model, step.loss, tiny, CPU, **settings | changes)

    wanted = compiled(mode="on")
    assert wanted.loss is not None
    assert wanted.is_compiled
    assert "Compiled with torch.compile in" in wanted.notes[0]
    # The decision follows the figures of the line, whichever way they fall on this machine.
    chosen = compiled()
    (note,) = chosen.notes
    compiled_ms, plain_ms = map(float, re.findall(r"([\d.e+]+) ms", note))
    assert (chosen.loss is None) == (compiled_ms >= plain_ms) == ("Not compiled" in note)
    assert chosen.is_compiled == (chosen.loss is not None)


@pytest.mark.slow
def test_a_translation_that_computes_something_else_is_dropped() -> None:
    model = Untranslatable()
    compiled, note = compile_loss(model, task_loss_for("causal_lm"), BATCH, CPU)
    assert compiled is None
    assert "trains as it is" in note
    assert all(parameter.grad is None for parameter in model.parameters())
