from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.training.tiny import (
    TinyTransformer,
    assert_same_state,
    checkpoints,
    make_model,
    make_options,
    make_splits,
    run,
)
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.system.interrupts import hold_interrupts
from transformer_foundry.core.training import Progress, fit
from transformer_foundry.core.training.optim.ema import EMA
from transformer_foundry.core.training.optim.learning_rate import learning_rate_at
from transformer_foundry.core.training.optim.optimizers import build_optimizers
from transformer_foundry.core.training.optim.schedules import SCHEDULES
from transformer_foundry.core.training.options import options_in_effect

CHANGES: list[dict[str, Any]] = [
    {"optimizer": "muon"},
    {"optimizer": "sgd", "learning_rate": 0.3},
    {"optimizer": "adamw", "ema_decay": 0.9},
    {"lr_scheduler_type": "warmup_stable_decay"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: "-".join(map(str, changes.values())))
def test_every_optimizer_learns_and_resumes_to_the_bit(changes: dict[str, Any]) -> None:
    options = {"max_steps": 40, "eval_steps": 20, "save_steps": 20, "save_epochs": False, **changes}
    whole = run(**options)
    losses = [record.metrics["train/loss"] for record in whole if isinstance(record, Progress)]
    assert losses[-1] < 0.9 * losses[0]
    resumed = list(fit(make_model(), make_splits(), make_options(**options), resume_from=checkpoints(whole)[0].state))
    assert_same_state(checkpoints(resumed)[-1].state, checkpoints(whole)[-1].state)


def test_muon_takes_the_matrices_between_embedding_and_head() -> None:
    model = TinyTransformer()
    muon, adamw = build_optimizers(model, make_options(optimizer="muon"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = {names[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    assert taken == {
        "attention.in_proj_weight", "attention.out_proj.weight", "feed_forward.1.weight", "feed_forward.3.weight",
    }  # fmt: skip
    rest = {names[id(parameter)] for group in adamw.param_groups for parameter in group["params"]}
    assert taken | rest == set(names.values())
    assert not taken & rest


def test_a_separate_head_is_updated_by_adamw() -> None:
    model = TinyTransformer()
    model.head = nn.Linear(16, 32, bias=False)
    muon, _ = build_optimizers(model, make_options(optimizer="muon"))
    assert not any(parameter is model.head.weight for group in muon.param_groups for parameter in group["params"])


def test_the_head_of_a_classifier_is_found_by_the_size_of_its_output() -> None:
    model = TinyTransformer(output_size=3, is_causal=False)
    muon, _ = build_optimizers(model, make_options(optimizer="muon"), output_size=3)
    taken = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    assert id(model.head.weight) not in taken
    assert id(model.feed_forward[3].weight) in taken


def test_a_model_without_hidden_matrices_trains_with_muon() -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.LayerNorm(4))
    (optimizer,) = build_optimizers(model, make_options(optimizer="muon"))
    assert isinstance(optimizer, torch.optim.AdamW)


def test_sgd_is_the_textbook_one() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    model = nn.ParameterDict({"weight": weight})
    (optimizer,) = build_optimizers(
        model, make_options(optimizer="sgd", learning_rate=0.5, momentum=0.0, weight_decay=0.1)
    )
    weight.grad = torch.tensor([[1.0, 1.0]])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[1.0 - 0.5 * (1 + 0.1), -2.0 - 0.5 * (1 - 0.2)]]))


def settings_of(options: Any) -> list[dict[str, Any]]:
    optimizers = build_optimizers(TinyTransformer(), options)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


@pytest.mark.parametrize("name", ["momentum", "beta1", "beta2"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_an_option_is_in_effect_if_it_changes_the_optimizer(optimizer: str, name: str) -> None:
    given: dict[str, Any] = {"optimizer": optimizer, name: 0.5}
    changes = settings_of(make_options(**given)) != settings_of(make_options(**given | {name: 0.6}))
    assert (name in options_in_effect(given)) == changes


@pytest.mark.parametrize("name", ["decay_ratio", "min_lr_ratio"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_option_is_in_effect_if_it_changes_the_learning_rate(schedule: str, name: str) -> None:
    given: dict[str, Any] = {"lr_scheduler_type": schedule, name: 0.5}
    low, high = (make_options(**given | {name: value}) for value in (0.3, 0.5))
    changes = any(learning_rate_at(step, 100, low) != learning_rate_at(step, 100, high) for step in range(100))
    assert (name in options_in_effect(given)) == changes


def test_the_average_follows_its_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = EMA(model, decay=0.5)
    expected = 0.0
    for step in range(1, 30):
        nn.init.constant_(model.weight, float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.capture(torch.clone)["average/weight"].item() == pytest.approx(expected, rel=1e-6)
    with average.in_place_of_weights():
        assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert model.weight.item() == 29.0


def test_an_interrupt_does_not_leave_half_of_the_average_in_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = EMA(model, decay=0.5)
    nn.init.zeros_(average._averages[0])
    swap = average._swap

    def stopped() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        swap()

    monkeypatch.setattr(average, "_swap", stopped)
    with pytest.raises(KeyboardInterrupt), average.in_place_of_weights(hold_interrupts):
        pass
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_evaluations_and_publication_take_the_average() -> None:
    seen: list[Tensor] = []

    class Watched(TinyTransformer):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            if not self.training:
                seen.append(self.head.weight.detach().clone())
            return super().forward(input_ids)

    records = run(Watched(), ema_decay=0.9, eval_steps=12)
    state = checkpoints(records)[-1].state
    assert torch.equal(seen[-1], state.evaluated_model["head.weight"])
    assert torch.equal(seen[-1], state.evaluated_model["embedding.weight"])  # tied
    assert not torch.equal(seen[-1], state.model["head.weight"])


def test_without_an_average_the_weights_themselves_are_published() -> None:
    state = checkpoints(run())[-1].state
    assert state.evaluated_model == dict(state.model)


def test_an_average_that_was_not_kept_is_missed() -> None:
    average = EMA(TinyTransformer(), 0.9)
    with pytest.raises(CheckpointError, match=r"no averaged weights of embedding\.weight"):
        average.restore({})
