"""An exponential moving average of the weights, which is evaluated and published in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training.optim.optimizers import AVERAGE_SLOT

__all__ = ["EMA"]


class EMA:
    """The average of the trainable parameters of a model, on their device and in their format.

    Buffers are not averaged. Early updates weigh more, as in TensorFlow's ``ExponentialMovingAverage`` with
    ``num_updates``: after n of them the decay is at most (1 + n) / (10 + n), so that the initial weights are forgotten
    in a short run too.

    Args:
        model: The model that is trained.
        decay: Share of the old value in each update, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._decay = decay
        self._names = list(named)
        self._parameters = list(named.values())
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Add the weights after the optimizer update number ``step``, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averages, [parameter.detach() for parameter in self._parameters], step)

    @contextmanager
    def in_place_of_weights(self, hold: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[None]:
        """Exchange the weights of the model for the averages in the body.

        Args:
            hold: Delays an interrupt: half an exchange would leave the weights of two models.
        """
        with ExitStack() as stack:
            with hold():
                self._swap()
                stack.callback(self._swap_back, hold)
            yield

    def capture(self, copy: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Copy the averages to the CPU by ``copy``, named as slots of an ``OptimizerState``."""
        return {
            f"{AVERAGE_SLOT}/{name}": copy(average) for name, average in zip(self._names, self._averages, strict=True)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the averages that ``capture`` returned.

        Raises:
            CheckpointError: If a parameter has no average.
        """
        for name, average in zip(self._names, self._averages, strict=True):
            saved = tensors.get(f"{AVERAGE_SLOT}/{name}")
            if saved is None:
                raise CheckpointError(
                    f"The checkpoint has no averaged weights of {name}.",
                    "training.ema_decay is given: an average of every trainable parameter was expected.",
                    "Set training.ema_decay=null, or start another run with run.name=NEW.",
                )
            average.copy_(saved)

    def _swap_back(self, hold: Callable[[], AbstractContextManager[None]]) -> None:
        with hold():
            self._swap()

    def _swap(self) -> None:
        """Exchange the values, not the tensors: ties and views of the model stay what they are."""
        with torch.no_grad():
            for parameter, average in zip(self._parameters, self._averages, strict=True):
                value = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(value)
