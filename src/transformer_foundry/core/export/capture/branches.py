"""Record data-dependent branches in eager runs, replay them during a capture, and guard them in the graph.

A graph cannot follow ``if mask.any():``. The model first runs on several inputs, and the truth values of each such
condition are recorded by its place in the code. If they were all the same, the graph takes that branch, and returns NaN
whenever the condition has the other value: it is never silently wrong. If they differed, the graph takes the branch of
the example, and verification, which uses the same inputs, shows whether that branch is right for all of them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["BranchGuard", "BranchRecorder", "BranchReplay"]

_TORCH_FOLDER = torch.__path__[0]

Place = tuple[str, int]


class BranchRecorder(TorchFunctionMode):
    """Records the truth values of conditions on tensors while a model runs eagerly.

    Attributes:
        answers: Place in the code -> the truth values there, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[Place, list[bool]] = defaultdict(list)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``; record the result of ``bool(tensor)``, and of ``.item()`` of a Boolean tensor."""
        result = func(*args, **(kwargs or {}))
        if _is_condition(func, args):
            self.answers[_place()].append(bool(result))
        return result


class BranchReplay(TorchFunctionMode):
    """Gives the recorded truth values while a model is captured.

    Args:
        runs: ``BranchRecorder.answers`` of each run of the model; the last run is the example's.

    Attributes:
        assumed: Places in the code, ``FILE:LINE``, at which the graph fixes a branch and guards it.
    """

    def __init__(self, runs: Sequence[Mapping[Place, list[bool]]]) -> None:
        super().__init__()
        self._runs = runs
        self._asked: dict[Place, int] = defaultdict(int)
        self._holds: list[Tensor] = []
        self.assumed: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, or return the recorded truth value."""
        if not torch.compiler.is_dynamo_compiling():
            if _is_condition(func, args):
                return self._answer(args[0])
            if func is Tensor.__format__ and args[0].dim() == 0:
                # For example the number of an expert in the name of a submodule.
                return format(args[0].item(), *args[1:])
            if func in (torch.div, torch.floor_divide) and not any(isinstance(arg, Tensor) for arg in args):
                return _divide_sizes(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _answer(self, condition: Tensor) -> bool:
        place = _place()
        time = self._asked[place]
        self._asked[place] += 1
        given = [run[place][time] for run in self._runs if len(run.get(place, ())) > time]
        if len(self._runs[-1].get(place, ())) <= time:
            raise RuntimeError(f"data-dependent {place}: the capture reads a value that no run of the model has read")
        answer = given[-1]
        if len(set(given)) == 1:
            truth = condition.reshape(()).bool()
            self._holds.append(truth if answer else ~truth)
            self.assumed.append(f"{Path(place[0]).name}:{place[1]}")
        return answer

    def start(self) -> None:
        """Forget earlier captures."""
        for recorded in (self._asked, self._holds, self.assumed):
            recorded.clear()

    def guard(self, logits: Tensor) -> Tensor:
        """Return ``logits``, or NaN if a condition differs from its recorded value."""
        for holds in self._holds:
            logits = torch.where(holds, logits, torch.nan)
        return logits


class BranchGuard(nn.Module):
    """A module whose logits are NaN if it would take another branch than the recorded one."""

    def __init__(self, module: nn.Module, replay: BranchReplay) -> None:
        super().__init__()
        self.module, self.replay = module, replay

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the logits."""
        self.replay.start()
        with self.replay:
            logits = self.module(*tensors)
        return self.replay.guard(logits)


def _is_condition(func: Any, args: Any) -> bool:
    return func is Tensor.__bool__ or (func is Tensor.item and args[0].dtype == torch.bool)


def _place() -> Place:
    """Return file and line of the code outside torch that is running."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_code.co_filename.startswith((_TORCH_FOLDER, __file__)):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _divide_sizes(func: Any, args: Any, kwargs: Any) -> Any:
    one, other = args[0], args[1] if len(args) > 1 else kwargs["other"]
    mode = kwargs.get("rounding_mode")
    if func is torch.floor_divide or mode in ("floor", "trunc"):
        # Sizes are not negative: both modes round down.
        return one // other
    return torch.tensor(one) / other
