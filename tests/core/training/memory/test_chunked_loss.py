from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.core.training.memory import models
from tests.core.training.memory.models import V, make_batch
from transformer_foundry.core.models import task_loss_for
from transformer_foundry.core.training.memory import ChunkedLoss, verify_chunked_loss
from transformer_foundry.core.training.memory.chunked_cross_entropy import Head
from transformer_foundry.core.training.memory.lazy_logits import LazyLogits, LogitsUsage

VERIFIED = [
    models.Model, models.Tied, models.Functional, models.FunctionalLinear, models.Scaled, models.SoftCapped,
    models.LogProbabilities, models.OwnLoss, models.Frozen, models.TorchEncoder,
]  # fmt: skip


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor | None]:
    names = dict(model.named_parameters())
    trainable = [name for name, parameter in names.items() if parameter.requires_grad]
    found = torch.autograd.grad(loss, [names[name] for name in trainable], allow_unused=True)
    return dict(zip(trainable, found, strict=True))


@pytest.mark.parametrize("make", VERIFIED)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_the_plain_model(make: Callable[[], nn.Module], smoothing: float) -> None:
    model, batch, objective = make(), make_batch(), task_loss_for("causal_lm")
    chunked, result = verify_chunked_loss(model, objective, batch, label_smoothing=smoothing)
    assert chunked is not None, result.line
    torch.manual_seed(3)
    plain = objective.loss(model, batch, label_smoothing=smoothing).loss_sum
    chunked.usage.rows = 5
    torch.manual_seed(3)
    with chunked.active():
        found = objective.loss(model, batch, label_smoothing=smoothing).loss_sum
    assert found.item() == pytest.approx(plain.item(), rel=1e-6)
    wanted = gradients(model, plain)
    whole = sum(float(gradient.norm()) ** 2 for gradient in wanted.values() if gradient is not None) ** 0.5
    for name, gradient in gradients(model, found).items():
        expected = wanted[name]
        assert (gradient is None) == (expected is None)
        if gradient is not None and expected is not None:
            assert (gradient - expected).norm() <= 1e-6 * expected.norm() + 1e-7 * whole, name


@pytest.mark.parametrize(("task", "make"), [("masked_lm", models.Model), ("seq2seq_lm", models.Pair)])
def test_other_tasks_with_a_vocabulary_are_proven_too(task: str, make: Callable[[], nn.Module]) -> None:
    chunked, result = verify_chunked_loss(make(), task_loss_for(task), make_batch(task))
    assert result.holds
    assert chunked is not None


@pytest.mark.parametrize(
    ("make", "reason"),
    [(models.Mixed, "needs the logits themselves, for cumsum"), (models.Factors, "not made by a linear layer")],
)
def test_it_is_abandoned_with_the_reason(make: Callable[[], nn.Module], reason: str) -> None:
    chunked, result = verify_chunked_loss(make(), task_loss_for("causal_lm"), make_batch())
    assert chunked is None
    assert reason in result.line


def test_a_classifier_has_no_use_for_it() -> None:
    chunked, result = verify_chunked_loss(
        models.Model(), task_loss_for("sequence_classification"), make_batch("sequence_classification")
    )
    assert (chunked, result.holds) == (None, False)
    assert "sequence_classification" in result.line


def test_a_wrong_gradient_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_foundry.core.training.memory import chunked_cross_entropy as module

    right = module._gradient
    monkeypatch.setattr(module, "_gradient", lambda *args: right(*args) * (1 + 1e-5))
    chunked, result = verify_chunked_loss(models.Model(), task_loss_for("causal_lm"), make_batch())
    assert chunked is None
    assert "the gradient of" in result.line


def test_a_proof_leaves_no_trace() -> None:
    model, batch = models.OwnLoss(), make_batch()
    model.eval()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    verify_chunked_loss(model, task_loss_for("causal_lm"), batch)
    assert not model.training
    assert not hasattr(model, "loss")
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("make", [models.Model, models.Functional])
def test_outside_the_model_is_plain(make: Callable[[], nn.Module]) -> None:
    model, batch = make(), make_batch()
    chunked, _ = verify_chunked_loss(model, task_loss_for("causal_lm"), batch)
    assert chunked is not None
    with chunked.active():
        assert type(model(batch["input_ids"])) is LazyLogits
    assert type(model(batch["input_ids"])) is Tensor
    assert not any("forward" in vars(module) for module in model.modules())


def test_an_evaluation_counts_the_same_correct_tokens() -> None:
    model, batch, objective = models.Model().eval(), make_batch(rows=8), task_loss_for("causal_lm")
    chunked, _ = verify_chunked_loss(model, objective, batch)
    assert chunked is not None
    with torch.no_grad():
        plain = objective.loss(model, batch, with_metrics=True)
        with chunked.active():
            found = objective.loss(model, batch, with_metrics=True)
    assert found.metric_sums["correct"] == plain.metric_sums["correct"] > 0
    assert found.loss_sum.item() == pytest.approx(plain.loss_sum.item(), rel=1e-6)
    assert chunked.usage.wanted_by == []


@pytest.mark.parametrize(
    "use",
    [
        lambda logits: logits.softmax(-1),
        lambda logits: logits[:, -1].float().cpu(),
        lambda logits: logits[..., :7],
        lambda logits: logits[torch.arange(3), torch.tensor([1, 0, 2])],
        lambda logits: logits[torch.ones(3, 5, dtype=torch.bool)] * 2,
        lambda logits: logits.view(15, -1).max(1).values,
        lambda logits: logits.transpose(1, 2).contiguous() + 1,
        lambda logits: logits.permute(0, 2, 1).sum(1),
        lambda logits: torch.cat([logits, logits]),
        lambda logits: logits.flatten(0, 1).T,
        lambda logits: logits.argmax(-1),
        lambda logits: logits.argmax(1),
        lambda logits: F.cross_entropy(logits.reshape(-1, V), torch.arange(15), reduction="none"),
        lambda logits: F.cross_entropy(logits.reshape(-1, V), torch.arange(15), weight=torch.arange(V) + 1.0),
        lambda logits: F.nll_loss(F.log_softmax(logits.reshape(-1, V), dim=1), torch.arange(15)),
        lambda logits: -logits / 3 - 1,
        lambda logits: 1 - logits,
        lambda logits: logits.clone().mul_(2),
        lambda logits: torch.where(torch.arange(V) < 5, -torch.inf, logits).logsumexp(-1),
    ],
)
def test_any_other_use_gets_the_same_numbers(use: Callable[[Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(3, 5, 8, generator=generator), torch.randn(V, 8, generator=generator)
    lazy = LazyLogits(hidden, Head(weight), LogitsUsage())
    found = use(lazy)
    torch.testing.assert_close(torch.clone(found), use(F.linear(hidden, weight)))


def test_logits_that_were_changed_stay_changed() -> None:
    hidden, weight = torch.randn(2, 3, 8), torch.randn(V, 8)
    with torch.no_grad():
        lazy = LazyLogits(hidden, Head(weight), LogitsUsage())
        lazy[..., 0] = -5.0
        lazy *= 2.0
    expected = F.linear(hidden, weight)
    expected[..., 0] = -5.0
    torch.testing.assert_close(lazy.reshape(-1, V), 2 * expected.view(-1, V))


def test_shape_and_type_are_known_without_computing() -> None:
    lazy = LazyLogits(torch.randn(2, 3, 8), Head(torch.randn(V, 8)), LogitsUsage())
    assert (lazy.shape, lazy.size(-1), lazy.dim(), lazy.dtype) == ((2, 3, V), V, 3, torch.float32)
    assert isinstance(lazy, Tensor)
    assert lazy.usage.wanted_by == []


def test_under_autocast_training_is_that_of_the_plain_model() -> None:
    model, batch, objective = models.Model(), make_batch(rows=8), task_loss_for("causal_lm")
    chunked, _ = verify_chunked_loss(model, objective, batch)
    assert chunked is not None
    chunked.usage.rows = 5
    losses = []
    for context in (torch.no_grad, chunked.active):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16), context():
            losses.append(objective.loss(model, batch).loss_sum)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=2e-3)
    losses[1].backward()
    assert chunked.usage.wanted_by == []


def test_lazy_logits_never_pass_for_numbers() -> None:
    lazy = LazyLogits(torch.randn(2, 3, 8), Head(torch.randn(V, 8)), LogitsUsage())
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(RuntimeError, match="chunked_loss=off"):
        torch.exp(lazy)


def test_the_watch_finds_a_head_of_its_size_only() -> None:
    model = models.Model()
    with ChunkedLoss(V + 1).active():
        assert type(model(make_batch()["input_ids"])) is Tensor
