"""How long a row may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.base.errors import DataError

if TYPE_CHECKING:
    from transformer_foundry.core.models.inference.infer_contract import Contract

__all__ = ["choose_max_length"]

_DEFAULT_LENGTH = 128  # tokens: enough to learn from on two cores


def choose_max_length(contract: Contract, options: DataOptions) -> int:
    """Return the longest row in tokens: what ``data.max_length`` says, else the model's maximum up to 128.

    Raises:
        DataError: If ``data.max_length`` is more than the model takes.
    """
    if options.max_length is None:
        return min(contract.max_length or _DEFAULT_LENGTH, _DEFAULT_LENGTH)
    if contract.max_length is not None and options.max_length > contract.max_length:
        raise DataError(
            f"data.max_length is {options.max_length} but the model takes at most {contract.max_length} tokens.",
            f"Expected at most {contract.max_length}.",
            f"Set data.max_length to {contract.max_length} or less, or to null.",
        )
    return options.max_length
