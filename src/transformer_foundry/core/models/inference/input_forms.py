"""Find unusual forms of a model's inputs by calling it: one mapping for all of them, or time before batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.inference.argument_roles import forward_parameters
from transformer_foundry.core.models.inference.output_format import float_tensors
from transformer_foundry.core.models.inference.probe import Probe, same
from transformer_foundry.core.models.side_effects import no_side_effects

__all__ = ["batch_argument", "is_time_first", "keys_of_batch"]

_SHAPE = (3, 7)
_MOST_KEYS = 16
COLUMN = 3
LONGER = 11


def batch_argument(model: nn.Module) -> str | None:
    """Return the only required argument of ``forward``, which may take all inputs as one mapping."""
    parameters = forward_parameters(model)
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    return required[0] if len(required) == 1 else None


def keys_of_batch(model: nn.Module, argument: str) -> dict[str, bool]:
    """Return the keys that ``model`` reads from a batch given as ``argument``, and whether each is required.

    Empty if it does not take a mapping. A key is required if it is read by ``batch[key]`` or ``batch.key`` without a
    look at whether it is there.
    """
    given: dict[str, Tensor] = {}
    found: dict[str, bool] = {}
    with no_side_effects(model):
        for _ in range(_MOST_KEYS):
            batch = _RecordedBatch(given, found)
            try:
                model(**{argument: batch})
            except Exception:  # the model's code may raise anything when it gets a batch of ones
                if batch.missing is None:
                    break
                given[batch.missing] = torch.ones(_SHAPE, dtype=torch.int64)
                continue
            break
    return found


class _RecordedBatch(dict[str, Any]):
    """A batch that notes which keys are read."""

    def __init__(self, values: Mapping[str, Tensor], found: dict[str, bool]) -> None:
        super().__init__(values)
        self._found = found
        self.missing: str | None = None

    def __missing__(self, key: str) -> Any:
        self._found[key] = True
        self.missing = key
        raise KeyError(key)

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        self._found[key] = True
        return value

    def __getattr__(self, key: str) -> Any:
        # Not what a model that takes a tensor reads.
        if key.startswith("_") or hasattr(Tensor, key):
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError as err:
            raise AttributeError(key) from err

    def get(self, key: str, default: Any = None) -> Any:
        self._found.setdefault(key, False)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._found.setdefault(str(key), False)
        return super().__contains__(key)


def is_time_first(probe: Probe) -> bool:
    """Return whether the model surely takes ids of shape (T, B), as torch's own layers do by default.

    It is sure if a token influences other rows but never another column, and equal tokens give outputs that change
    along the rows only: then the rows are the positions. A model of (B, T) that mixes its samples by mistake counts
    positions along its columns, or not at all.
    """
    if probe.batch < 2:
        return False
    is_decoder = probe.contract.decoder_ids_argument is not None
    ids = probe.ids(1, decoder=True) if is_decoder else probe.ids()
    other = ids.clone()
    other[1, COLUMN] = probe.with_other_token(ids, COLUMN, decoder=is_decoder)[1, COLUMN]
    equal = torch.full_like(ids, int(ids[0, 0]))
    try:
        base, changed, constant = (_scores(probe, tokens) for tokens in (ids, other, equal))
        if base is None:
            # One row of scores for each column: the columns are the samples.
            return not is_decoder and _scores_of_columns(probe, probe.length) and _scores_of_columns(probe, LONGER)
    except ModelError:
        return False
    if changed is None or constant is None:
        return False
    columns = [not same(base[:, place], changed[:, place]) for place in range(probe.length)]
    rows = [not same(base[place, COLUMN], changed[place, COLUMN]) for place in range(probe.batch)]
    varies_down = any(not same(constant[0], constant[place]) for place in range(1, probe.batch))
    varies_across = any(not same(constant[:, 0], constant[:, place]) for place in range(1, probe.length))
    stays_in_column = columns == [place == COLUMN for place in range(probe.length)]
    return stays_in_column and sum(rows) > 1 and varies_down and not varies_across


def _scores(probe: Probe, ids: Tensor) -> Tensor | None:
    """Return the last output of one row of scores for each id, (rows, columns, V), None without one.

    An encoder-decoder gets ``ids`` in its decoder, and one source for all samples.
    """
    shape = tuple(ids.shape)
    is_decoder = probe.contract.decoder_ids_argument is not None
    output = probe.run(torch.full_like(ids, int(probe.ids()[0, 0])), ids) if is_decoder else probe.run(ids)
    found = [part for part in float_tensors(output) if part.dim() == 3 and tuple(part.shape[:2]) == shape]
    return found[-1] if found else None


def _scores_of_columns(probe: Probe, length: int) -> bool:
    found = [part for part in float_tensors(probe.run(probe.ids(length=length))) if part.dim() == 2]
    return bool(found) and all(part.shape[0] == length for part in found)
