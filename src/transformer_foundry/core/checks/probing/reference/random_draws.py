"""A context in which torch draws its smallest or its largest random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.system.torch_compat import DispatchMode, disable_function_modes, schema_of

__all__ = ["ExtremeDraws"]

# Numbers of a normal distribution beyond this are drawn once in 30,000 times.
LARGEST_NORMAL = 4.0


@dataclass
class ExtremeDraws(DispatchMode):
    """A context in which every random number of torch is the smallest that its operation can give, or the largest.

    Dropout is left as it is: ordinary draws show it.
    """

    is_largest: bool

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operation, and replace its random numbers."""
        with disable_function_modes():
            output = func(*args, **kwargs)
            if torch.Tag.nondeterministic_seeded in func.tags and isinstance(output, Tensor) and output.numel():
                self._replace(schema_of(func).name.partition("::")[2], output, args)
        return output

    def _replace(self, name: str, output: Tensor, args: tuple[Any, ...]) -> None:
        name = name.removesuffix("_").removesuffix("_like")
        if name == "randperm":
            output.copy_(output.sort(descending=self.is_largest).values)
        elif name == "bernoulli":
            self._decide(output, args)
        elif name == "randint":
            numbers = [item for item in args if isinstance(item, int) and not isinstance(item, bool)]
            low, high = (numbers[0], numbers[1]) if len(numbers) > 1 else (0, numbers[0])
            output.fill_(high - 1 if self.is_largest else low)
        elif name in ("rand", "uniform"):
            start, end = (args[1], args[2]) if name == "uniform" and len(args) > 2 else (0.0, 1.0)
            width = (end - start) * (1 - torch.finfo(output.dtype).eps)
            output.fill_(start + width if self.is_largest else start)
        elif name in ("randn", "normal"):
            spread = float(output.std()) if output.numel() > 1 else 1.0
            output.add_(LARGEST_NORMAL * (spread if self.is_largest else -spread))

    def _decide(self, output: Tensor, args: tuple[Any, ...]) -> None:
        """Give one answer wherever both are possible."""
        probability = args[1] if len(args) > 1 and isinstance(args[1], float | Tensor) else None
        if probability is None and output is not args[0]:
            probability = args[0]
        open_choice = (torch.as_tensor(0.5 if probability is None else probability) % 1) > 0
        output.masked_fill_(open_choice, float(self.is_largest))
