from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.core.training.tiny import TinyTransformer, make_options
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.models import task_loss_for
from transformer_foundry.core.system.interrupts import hold_interrupts
from transformer_foundry.core.system.precision import choose_precision
from transformer_foundry.core.training.build_trainer import build_train_step

CPU = choose_precision("cpu", "fp32")


def make_batch(lengths: list[int]) -> dict[str, Tensor]:
    ids = torch.randint(4, 32, (len(lengths), 12), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(12) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": torch.where(mask, ids, -100)}


def updated(batches: list[dict[str, Tensor]], **changes: Any) -> tuple[nn.Module, float]:
    model = TinyTransformer(dropout=0.0)
    train_step = build_train_step(model, task_loss_for("causal_lm"), make_options(**changes), CPU)
    norm = train_step.accumulate(batches).grad_norm
    train_step.apply(1e-2, step=1)
    return model, norm


def test_accumulation_equals_the_large_batch_with_unequal_label_counts() -> None:
    batch = make_batch([12, 3, 7, 2])
    rows = [{name: tensor[row : row + 1] for name, tensor in batch.items()} for row in range(4)]
    (whole, norm), (parts, norm_of_parts) = updated([batch]), updated(rows)
    assert norm_of_parts == pytest.approx(norm, rel=1e-6)
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
        # Adam's first step is the sign of the gradient: of the attention's key bias, whose gradient is zero but for
        # rounding, it is noise.
        has_gradient = theirs.grad.abs() > 1e-6
        torch.testing.assert_close(ours[has_gradient], theirs[has_gradient], rtol=0, atol=1e-6)


def test_an_update_equals_a_hand_written_one() -> None:
    batch = make_batch([12, 5])
    ours, norm = updated([batch], weight_decay=0.3, max_grad_norm=0.5)
    theirs = TinyTransformer(dropout=0.0)
    decayed = [p for p in theirs.parameters() if p.dim() >= 2]
    groups = [{"params": decayed}, {"params": [p for p in theirs.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.3, fused=False)
    logits = theirs(batch["input_ids"])[:, :-1].reshape(-1, 32)
    F.cross_entropy(logits, batch["labels"][:, 1:].reshape(-1)).backward()
    total = torch.sqrt(sum((p.grad**2).sum() for p in theirs.parameters() if p.grad is not None))
    for parameter in theirs.parameters():
        parameter.grad = parameter.grad * min(1.0, 0.5 / (float(total) + 1e-6))
    optimizer.step()
    assert norm == pytest.approx(float(total), rel=1e-5)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        has_gradient = reference.grad.abs() > 1e-6
        torch.testing.assert_close(mine[has_gradient], reference[has_gradient], rtol=0, atol=1e-6)


def test_a_norm_of_zero_turns_clipping_off() -> None:
    clipped, plain, off = (updated([make_batch([12, 5])], max_grad_norm=norm)[0] for norm in (1e-3, 1e9, 0.0))
    gradients = [next(model.parameters()).grad for model in (clipped, plain, off)]
    assert torch.equal(gradients[1], gradients[2])
    assert not torch.equal(gradients[0], gradients[1])


def test_only_matrices_decay() -> None:
    train_step = build_train_step(TinyTransformer(), task_loss_for("causal_lm"), make_options(weight_decay=0.3), CPU)
    decays = {p.dim() >= 2: group["weight_decay"] for group in train_step.groups for p in group["params"]}
    assert decays == {True: 0.3, False: 0.0}


def test_a_frozen_parameter_stays() -> None:
    model = TinyTransformer(dropout=0.0)
    model.attention.in_proj_weight.requires_grad_(False)
    before = model.attention.in_proj_weight.clone()
    train_step = build_train_step(model, task_loss_for("causal_lm"), make_options(), CPU)
    train_step.accumulate([make_batch([12])])
    train_step.apply(1e-2, step=1)
    assert torch.equal(model.attention.in_proj_weight, before)


def test_a_step_without_targets_changes_nothing_but_decay() -> None:
    model, norm = updated([make_batch([1, 1])], weight_decay=0.0)
    assert norm == 0.0
    for ours, before in zip(model.parameters(), TinyTransformer(dropout=0.0).parameters(), strict=True):
        assert torch.equal(ours, before)


def test_a_loss_that_reaches_no_parameter_is_refused() -> None:
    class Detached(TinyTransformer):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return super().forward(input_ids).detach()

    train_step = build_train_step(Detached(), task_loss_for("causal_lm"), make_options(), CPU)
    with pytest.raises(TrainingError, match="does not depend on any trainable parameter"):
        train_step.accumulate([make_batch([12])])


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(TrainingError, match="no trainable parameter"):
        build_train_step(nn.Identity(), task_loss_for("causal_lm"), make_options(), CPU)


def interrupt(times: int, reached: list[str]) -> None:
    with hold_interrupts():
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        reached.append("end")


def test_an_interrupt_waits_for_the_end_of_the_body() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt(1, reached)
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt(2, reached)
    assert reached == []


def test_interrupts_are_not_held_outside_the_main_thread() -> None:
    reached: list[str] = []
    thread = threading.Thread(target=interrupt, args=(0, reached))
    thread.start()
    thread.join()
    assert reached == ["end"]
