from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.core.training.memory import models
from tests.core.training.memory.models import make_batch
from transformer_foundry.core.models import task_loss_for
from transformer_foundry.core.training.memory import verify_activation_checkpointing, verify_savings
from transformer_foundry.core.training.memory.blocks import find_blocks

CAUSAL = task_loss_for("causal_lm")


def blocks_of(model: nn.Module, task: str = "causal_lm") -> list[str]:
    return list(find_blocks(model, task_loss_for(task), make_batch(task)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (models.Model, ["blocks.0", "blocks.1", "blocks.2"]),
        (models.Shared, ["blocks.0"]),
        (models.Nodes, ["mhsa_0", "mhsa_1", "ffn_0", "ffn_1"]),
        (models.TorchEncoder, ["encoder.layers.0", "encoder.layers.1", "encoder.layers.2"]),
        (models.Caching, ["blocks.0", "blocks.1", "blocks.2"]),
        (lambda: models.Model(1), []),
    ],
)
def test_blocks_are_found_by_their_place_and_class(make: Callable[[], nn.Module], expected: list[str]) -> None:
    assert blocks_of(make()) == expected


def test_a_block_is_more_than_its_attention_heads() -> None:
    assert blocks_of(models.Model(2, block=models.Heads)) == ["blocks.0", "blocks.1"]


def test_an_encoder_and_a_decoder_of_one_class_are_not_blocks_but_their_layers_are() -> None:
    names = ["encoder.layers.0", "encoder.layers.1", "decoder.layers.0", "decoder.layers.1"]
    assert blocks_of(models.Pair(), "seq2seq_lm") == names


@pytest.mark.parametrize(
    "make", [models.Model, models.Tied, models.Shared, models.Nodes, models.TorchEncoder, models.Caching]
)
def test_gradients_are_equal_to_the_bit_with_dropout_on(make: Callable[[], nn.Module]) -> None:
    model, batch = make().train(), make_batch()
    checkpointing, result = verify_activation_checkpointing(model, CAUSAL, batch)
    assert checkpointing is not None, result.line
    torch.manual_seed(5)
    CAUSAL.loss(model, batch).loss_sum.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(5)
    with checkpointing.active():
        loss = CAUSAL.loss(model, batch).loss_sum
    loss.backward()
    for name, parameter in model.named_parameters():
        expected = wanted[name]
        assert (parameter.grad is None) == (expected is None)
        assert expected is None or torch.equal(parameter.grad, expected), name  # type: ignore[arg-type]


def test_blocks_keep_their_inputs_only() -> None:
    model, batch = models.Model(4).train(), make_batch(rows=8)
    checkpointing, _ = verify_activation_checkpointing(model, CAUSAL, batch)
    assert checkpointing is not None

    def saved(context: Callable[[], object]) -> int:
        sizes: dict[int, int] = {}
        note = lambda tensor: sizes.setdefault(tensor.data_ptr(), tensor.nbytes) and tensor  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), context():  # type: ignore[attr-defined]
            model.run_blocks(model.embedding(batch["input_ids"]))
        return sum(sizes.values())

    import contextlib

    assert 4 * saved(checkpointing.active) < saved(contextlib.nullcontext)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (models.Counting, "blocks.0 changes its calls with each call"),
        (models.Remembering, "blocks.0 changes its cache with each call"),
        (models.Normalising, "blocks.0 changes its batch_norm.num_batches_tracked with each call"),
        (models.Gambling, "blocks.0 draws random numbers of Python or numpy"),
    ],
)
def test_it_is_abandoned_with_the_reason(block: Callable[[], nn.Module], reason: str) -> None:
    checkpointing, result = verify_activation_checkpointing(models.Model(block=block), CAUSAL, make_batch())
    assert checkpointing is None
    assert reason in result.line


def test_hooks_within_a_block_would_run_twice() -> None:
    model = models.Model()
    model.blocks[1].norm.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
    checkpointing, result = verify_activation_checkpointing(model, CAUSAL, make_batch())
    assert checkpointing is None
    assert "blocks.1.norm has a forward hook" in result.line


def test_a_model_without_repeated_blocks_has_no_use_for_it() -> None:
    checkpointing, result = verify_activation_checkpointing(models.Model(1), CAUSAL, make_batch())
    assert checkpointing is None
    assert "no blocks" in result.line


@pytest.mark.parametrize("block", [models.Counting, models.Remembering, models.Normalising])
def test_a_proof_leaves_no_trace(block: Callable[[], nn.Module]) -> None:
    model = models.Model(block=block)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    kept = [len(vars(module)) for module in model.modules()]
    verify_activation_checkpointing(model, CAUSAL, make_batch())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [len(vars(module)) for module in model.modules()] == kept
    assert getattr(model.blocks[0], "calls", 0) == 0
    assert getattr(model.blocks[0], "cache", []) == []


def test_names_of_parameters_stay_the_same_while_it_is_active() -> None:
    model = models.Model()
    names = list(model.state_dict())
    checkpointing, _ = verify_activation_checkpointing(model, CAUSAL, make_batch())
    assert checkpointing is not None
    with checkpointing.active():
        assert list(model.state_dict()) == names
    assert not any("forward" in vars(module) for module in model.modules())


def test_an_evaluation_computes_blocks_once() -> None:
    calls: list[bool] = []
    model = models.Model().eval()
    checkpointing, _ = verify_activation_checkpointing(model, CAUSAL, make_batch())
    assert checkpointing is not None
    for block in model.blocks:
        block.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    with checkpointing.active(), torch.no_grad():
        CAUSAL.loss(model, make_batch())
    assert calls == [False] * 3


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_both_savings_together_train_like_the_plain_model(precision: torch.dtype) -> None:
    weights = []
    for is_saving in (False, True):
        model, batch = models.Tied().train(), make_batch(rows=8)
        savings = verify_savings(model, CAUSAL, batch, chunked_loss=is_saving, activation_checkpointing=is_saving)
        assert len(savings.lines) == 2 * is_saving
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        torch.manual_seed(7)
        for _ in range(5):
            with torch.autocast("cpu", precision, enabled=precision is not torch.float32), savings.active():
                loss = CAUSAL.loss(model, batch).loss_sum
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights.append(model.embedding.weight.detach())
    tolerance = 1e-6 if precision is torch.float32 else 1e-2
    assert (weights[0] - weights[1]).norm() <= tolerance * weights[0].norm()


def test_savings_can_be_limited() -> None:
    savings = verify_savings(models.Model(), CAUSAL, make_batch())
    limited = savings.limited_to(chunked_loss=False, activation_checkpointing=True)
    assert limited.chunked_loss is None
    assert limited.activation_checkpointing is savings.activation_checkpointing is not None
