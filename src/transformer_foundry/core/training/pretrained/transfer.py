"""Transfer trained weights to a model: which tensors are loaded, which are new, which are unused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.system.tensors import memory_key
from transformer_foundry.core.training.checkpointing.state import restore_model
from transformer_foundry.core.training.pretrained.source import WeightSource

if TYPE_CHECKING:
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["WeightTransfer", "transfer_weights"]

_SHOWN = 6


@dataclass(frozen=True)
class WeightTransfer:
    """Result for every tensor: each one of the model is loaded or new, each one of the source loaded or unused.

    Attributes:
        loaded: Names in the model with values of the source, directly or through a tied tensor.
        new: Names in the model that keep their initial values.
        unused: Names in the source without a matching tensor in the model.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def describe(self, source: WeightSource) -> dict[str, Any]:
        """Return the entry for the manifest of the run."""
        lists = {"loaded": list(self.loaded), "new": list(self.new), "unused": list(self.unused)}
        return {"source": source.name, "origin": source.origin, "sha256": source.sha256, **lists}

    def line(self, source: WeightSource) -> str:
        """Return the result as a sentence."""
        return (
            f"Begins with the weights of {source.origin}: {len(self.loaded)} tensors loaded, "
            f"{_count(self.new, 'new')}, {_count(self.unused, 'unused')}."
        )


def transfer_weights(adapter: Adapter, source: WeightSource, vocabulary: str = "") -> WeightTransfer:
    """Fill ``adapter`` with the matching tensors of ``source``, by name, in place.

    The last layer of a model for another task is new: where the tasks differ, a tensor whose only difference is as many
    rows as the model has outputs is not taken. A buffer of another shape (a mask, a table of positions) is new as well:
    the model has computed it for itself.

    Args:
        adapter: The model.
        source: The weights.
        vocabulary: Digest of the tokens it will be trained on; empty is not compared.

    Raises:
        CheckpointError: If the source is another kind of model, has another vocabulary, a tensor of another shape, or
            none that the model has a place for.
    """
    _require_kind(adapter, source)
    model = adapter.model
    current = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    shared = [name for name in current if name in source.tensors]
    differing = [name for name in shared if current[name].shape != source.tensors[name].shape]
    heads = {name for name in differing if _is_other_head(adapter, source, current[name], source.tensors[name])}
    wrong = [name for name in differing if name in trained and name not in heads]
    if wrong:
        raise _wrong_shapes(source, {name: (source.tensors[name], current[name]) for name in wrong})
    loaded = _without_conflicts([name for name in shared if name not in differing], current, source.tensors)
    if not any(name in trained for name in loaded):
        raise _nothing_in_common(source, current)
    if vocabulary and source.vocabulary and vocabulary != source.vocabulary:
        raise _other_vocabulary(source)
    with torch.no_grad():
        restore_model(model, {**current, **{name: source.tensors[name] for name in loaded}})
    # A tensor that is tied to a loaded one has its values.
    places = {memory_key(current[name]) for name in loaded}
    new = tuple(name for name in current if name not in loaded and memory_key(current[name]) not in places)
    tied = tuple(name for name in current if name not in loaded and name not in new)
    unused = tuple(name for name in source.tensors if name not in loaded)
    return WeightTransfer((*loaded, *tied), new, unused)


def _without_conflicts(names: list[str], current: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> list[str]:
    """Of names that are one tensor in the model but two in the source, keep the first."""
    first: dict[Any, str] = {}
    kept = []
    for name in names:
        owner = first.setdefault(memory_key(current[name]), name)
        if owner == name or torch.equal(saved[owner], saved[name]):
            kept.append(name)
    return kept


def _is_other_head(adapter: Adapter, source: WeightSource, ours: Tensor, theirs: Tensor) -> bool:
    contract = adapter.contract
    is_output = ours.dim() in (1, 2) and ours.shape[0] == contract.output_size
    return bool(source.task) and source.task != contract.task and is_output and ours.shape[1:] == theirs.shape[1:]


def _require_kind(adapter: Adapter, source: WeightSource) -> None:
    kind = adapter.contract.kind
    if source.kind and source.kind != kind:
        raise CheckpointError(
            f"The weights of {source.origin} are of a model that is {source.kind}; this model is {kind}.",
            "A source of the same kind was expected.",
            "Name another model.init_from, or state what the model is with model.kind.",
        )


def _wrong_shapes(source: WeightSource, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> CheckpointError:
    shown = [f"{name} {tuple(theirs.shape)} there, {tuple(ours.shape)} here" for name, (theirs, ours) in pairs.items()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return CheckpointError(
        f"The shapes of {source.origin} do not fit the model: {'; '.join(shown[:_SHOWN])}{more}.",
        "The same shapes were expected for every weight of the same name.",
        "Give the model the sizes of the source (vocab_size, max_seq_len, d_model ... in config.json), or rename what "
        "is to be new in model.py.",
    )


def _nothing_in_common(source: WeightSource, current: Mapping[str, Tensor]) -> CheckpointError:
    return CheckpointError(
        f"No weight of {source.origin} has a name of the model: {', '.join(list(source.tensors)[:3])} ... there, "
        f"{', '.join(list(current)[:3])} ... here.",
        "Tensors are matched by their names.",
        "Name the parts that both models have alike in model.py, or leave model.init_from out.",
    )


def _other_vocabulary(source: WeightSource) -> CheckpointError:
    return CheckpointError(
        f"The tokens of {source.origin} are not those of the prepared data: its embeddings would mean other words.",
        "Data prepared with the tokenizer of the source were expected.",
        "Run data_engineering with data.tokenizer=FOLDER, that of the source (05_model_input/RUN/tokenizer, or "
        "the package's folder).",
    )


def _count(names: tuple[str, ...], word: str) -> str:
    if not names:
        return f"none {word}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {word} ({', '.join(names[:_SHOWN])}{more})"
