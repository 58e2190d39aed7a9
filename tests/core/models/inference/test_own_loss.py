"""Terms of a model's own loss beyond cross-entropy: found, named, and with the right gradient in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.models import adapt, task_loss_for
from transformer_foundry.core.models.inference.own_loss import find_own_terms
from transformer_foundry.core.system.precision import choose_precision
from transformer_foundry.core.training import TrainingOptions
from transformer_foundry.core.training.build_trainer import build_train_step
from transformer_foundry.core.training.memory.equivalence import run_once
from transformer_foundry.core.training.memory.savings import verify_savings

V, T = 24, 10
CPU = choose_precision("cpu", "fp32")


class Experts(nn.Module):
    """A causal model of two experts; ``terms`` are those of the balance of experts and the z-loss."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(V, 16), nn.Linear(16, V)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.gate, self.experts = nn.Linear(16, 2), nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.form = form

    def compute(self, input_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.embedding(input_ids)
        future = torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1)
        x = x + self.attention(x, x, x, attn_mask=future, need_weights=False)[0]
        shares = self.gate(x).softmax(-1)
        x = x + sum(shares[..., [at]] * expert(x) for at, expert in enumerate(self.experts))
        logits = self.head(x)
        balance = 2 * (shares.mean((0, 1)) ** 2).sum()
        return logits, 0.3 * balance, 0.01 * logits.logsumexp(-1).pow(2).mean()

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Any:
        logits, balance, z_loss = self.compute(input_ids)
        if self.form == "terms alone":
            return {"logits": logits, "balance_loss": balance, "z_loss": z_loss}
        if labels is None:
            return {"logits": logits}
        kept, wanted = (logits[:, :-1], labels[:, 1:]) if "unshifted" not in self.form else (logits, labels)
        loss = F.cross_entropy(kept.reshape(-1, V), wanted.reshape(-1))
        if self.form == "smoothed":
            loss = F.cross_entropy(kept.reshape(-1, V), wanted.reshape(-1), label_smoothing=0.1)
        elif self.form != "plain":
            loss = loss + balance + z_loss
        return {"logits": logits, "loss": loss}


def batch_of(rows: int = 6, seed: int = 0) -> dict[str, Tensor]:
    ids = torch.randint(1, V, (rows, T), generator=torch.Generator().manual_seed(seed))
    labels = ids.clone()
    labels[: rows // 2, :4] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


FORMS = ["shifted", "unshifted", "terms alone"]


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_a_step_is_that_of_the_written_formula(form: str) -> None:
    adapter, batches = adapt(Experts(form), {"vocab_size": V}), [batch_of(6), batch_of(4, seed=1)]
    own_terms, line = find_own_terms(adapter, batches[0])
    assert own_terms is not None
    assert line is not None
    assert "(balance_loss, z_loss)" in line or form != "terms alone"
    options = TrainingOptions(max_grad_norm=0, device="cpu", optimizer="sgd")
    objective = task_loss_for("causal_lm")
    with_terms = task_loss_for("causal_lm").__class__("causal_lm", shifts_labels=True, own_terms=own_terms)
    stats = build_train_step(adapter, with_terms, options, CPU).accumulate(batches)
    found = {name: gradient.clone() for name, gradient in gradients(adapter.model).items()}

    # Mean cross-entropy over the targets of the step, and the mean of the terms, weighted by the targets.
    adapter.zero_grad()
    counts = [objective.count_targets(batch) for batch in batches]
    losses = []
    for batch, count in zip(batches, counts, strict=True):
        logits, balance, z_loss = adapter.model.compute(batch["input_ids"])
        kept, wanted = logits[:, :-1].reshape(-1, V), batch["labels"][:, 1:].reshape(-1)
        summed = F.cross_entropy(kept, wanted, ignore_index=-100, reduction="sum")
        losses.append(float(summed.detach()))
        ((summed + count * (balance + z_loss)) / sum(counts)).backward()
    for name, expected in gradients(adapter.model).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=2e-7, msg=name)
    assert stats.loss_sum == pytest.approx(sum(losses), rel=1e-5)


def test_a_loss_without_terms_of_its_own_adds_nothing() -> None:
    adapter, batch = adapt(Experts("plain"), {"vocab_size": V}), batch_of()
    assert find_own_terms(adapter, batch) == (None, None)
    with pytest.raises(TrainingError, match="model_loss is own, but the loss that the model returns is cross-entropy"):
        find_own_terms(adapter, batch, "own")


def test_a_loss_that_is_no_cross_entropy_with_terms_is_named_and_not_used() -> None:
    found, line = find_own_terms(adapt(Experts("smoothed"), {"vocab_size": V}), batch_of())
    assert found is None
    assert line is not None
    assert line.startswith("The loss that the model returns differs from cross-entropy in more than added terms")


def test_the_terms_can_be_left_out() -> None:
    assert find_own_terms(adapt(Experts("shifted"), {"vocab_size": V}), batch_of(), "ours") == (None, None)


def test_looking_for_terms_leaves_the_model_and_the_random_state_as_they_are() -> None:
    adapter, batch = adapt(Experts("shifted"), {"vocab_size": V}), batch_of()
    adapter.train()
    before = torch.get_rng_state()
    find_own_terms(adapter, batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert adapter.training
    assert not gradients(adapter.model)


@pytest.mark.parametrize("form", FORMS)
def test_memory_savings_keep_the_gradient_of_the_terms(form: str) -> None:
    adapter, batch = adapt(Experts(form), {"vocab_size": V}), batch_of(2)
    own_terms, _ = find_own_terms(adapter, batch)
    objective = task_loss_for("causal_lm").__class__("causal_lm", shifts_labels=True, own_terms=own_terms)
    plain = run_once(adapter, objective, batch)
    savings = verify_savings(adapter, objective, batch)
    saved = run_once(adapter, objective, batch, savings.active)
    for name, expected in plain.gradients.items():
        torch.testing.assert_close(saved.gradients[name], expected, rtol=1e-4, atol=1e-6)
