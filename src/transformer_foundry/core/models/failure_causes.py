"""Why a model cannot be called or returns no logits: found by a look at the model, not at the text of an exception."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.inference.config_hints import graph_nodes
from transformer_foundry.core.models.inference.output_format import float_tensors
from transformer_foundry.core.models.model_errors import argument_line, raising_line

__all__ = ["ids_as_numbers", "missing_forward", "number_inputs", "output_causes", "remedy_for"]

_SHAPE = (3, 7)


def remedy_for(config: Mapping[str, Any], written: str, drawn: str) -> str:
    """Return ``drawn``, which names Transformer Builder, if ``config`` holds a drawn graph, else ``written``."""
    return drawn if graph_nodes(config) else written


def missing_forward(model: nn.Module, config: Mapping[str, Any]) -> ModelError | None:
    """Return the error for a class without ``forward``, None if it has one."""
    if type(model).forward is not nn.Module.forward:
        return None
    name = type(model).__name__
    methods = [key for key, value in vars(type(model)).items() if callable(value) and not key.startswith("_")]
    shown = f"; its methods: {', '.join(methods[:5])}" if methods else ""
    called = next((key for key in methods if key in ("call", "run", "predict", "__call__", "apply_model")), None)
    return ModelError(
        f"{argument_line(type(model).__init__, 'self')}: the class {name} defines no forward{shown}.",
        "Expected def forward(self, input_ids), indented into the class, that returns the logits.",
        remedy_for(
            config,
            f"Rename {called} to forward." if called else f"Add forward to {name}; look at its name and indentation.",
            "Connect the blocks in Transformer Builder, and export again.",
        ),
    )


def number_inputs(model: nn.Module, argument: str, error: ModelError) -> ModelError | None:
    """Return the error for a model that takes numbers where Foundry has token ids, None if it does not.

    It takes numbers if ``error`` came of ids and floating point numbers, as wide as its first layer, are accepted.
    """
    layer = _first_layer(model)
    if layer is None:
        return None
    width = _width(layer[1])
    for shape in ((*_SHAPE, width), _SHAPE, (_SHAPE[0], width)):
        try:
            with torch.no_grad():
                model(**{argument: torch.zeros([size for size in shape if size is not None])})
        except Exception:  # the model's code may raise anything
            continue
        place = raising_line(error.__cause__) if error.__cause__ is not None else ""
        return _takes_numbers(place, model)
    return None


def ids_as_numbers(model: nn.Module, argument: str, ids: Tensor) -> ModelError | None:
    """Return the error for a model that computes with the ids themselves: the same with floating point numbers."""
    if _first_layer(model) is None:
        return None
    try:
        with torch.no_grad():
            outputs = [float_tensors(model(**{argument: given})) for given in (ids, ids.float())]
    except Exception:  # a table of embeddings refuses floating point numbers
        return None
    are_equal = len(outputs[0]) == len(outputs[1]) > 0 and all(map(torch.equal, *outputs))
    return _takes_numbers(f"{argument_line(model.forward, argument)}: ", model) if are_equal else None


def _takes_numbers(place: str, model: nn.Module) -> ModelError:
    layer = _first_layer(model)
    assert layer is not None
    return ModelError(
        f"{place}{type(model).__name__} takes numbers, not token ids: its first layer is {layer[0]}, "
        f"{type(layer[1]).__name__} of {_width(layer[1])} numbers.",
        "Expected (batch, length) int64 token ids: Foundry trains models of text.",
        "Look the ids up first, with nn.Embedding(vocab_size, d_model) in place of that layer; a model of time "
        "series needs another trainer.",
    )


def _first_layer(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return the first layer that multiplies numbers in a model without a table of embeddings, None otherwise."""
    if any(isinstance(item, nn.Embedding | nn.EmbeddingBag) for item in model.modules()):
        return None
    return next(((path, item) for path, item in model.named_modules() if _width(item) is not None), None)


def _width(layer: nn.Module) -> int | None:
    """Return how many numbers a layer takes at each position, None for other modules."""
    for kind, name in ((nn.Linear, "in_features"), (nn.Conv1d, "in_channels"), (nn.RNNBase, "input_size")):
        if isinstance(layer, kind):
            return int(getattr(layer, name))
    return None


def output_causes(
    model: nn.Module, output: Any, called: Iterable[nn.Module], sizes: Iterable[int | None]
) -> tuple[str, str] | None:
    """Return the cause of an output without logits, as a sentence, and what to do; None if it is not known.

    Args:
        model: The model.
        output: What it returned.
        called: The modules that ran.
        sizes: Numbers of outputs that a head may have: the vocabulary, the classes.
    """
    line = argument_line(model.forward, "self")
    if output is None:
        return f"{line}: forward returns nothing.", "End forward with return logits."
    numbers = float_tensors(output)
    if numbers and all(number.numel() == 1 for number in numbers):
        return (
            f"{line}: forward returns one number, a loss, and no logits.",
            "Return the logits too: return logits, loss; Foundry computes the loss from them.",
        )
    ran = {id(module) for module in called}
    wanted = set(sizes)
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features in wanted and id(module) not in ran:
            return (
                f"{line}: forward never calls self.{path}, which has {module.out_features} outputs.",
                f"End forward with return self.{path}(x), where x is what it returns now.",
            )
    return None
