"""The course of a computation where it depends on values: known from the model's own runs, and checked by the graph.

``if mask.any():`` cannot be followed by a graph. The model is run on several inputs first, and the answers to each such
question, known by its place in the code, are noted. Where they were all the same, the graph takes that way and answers
with NaN whenever the question has another answer: it is never silently wrong. Where they differed, the graph takes the
way of the example, and verification, which uses those same inputs, tells whether that way serves both.
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
    """Notes the answers while a model runs as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[Place, list[bool]] = defaultdict(list)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``; note what a tensor answers to ``bool()``, and to ``.item()`` where it is a truth value."""
        result = func(*args, **(kwargs or {}))
        if _is_question(func, args):
            self.answers[_place()].append(bool(result))
        return result


class BranchReplay(TorchFunctionMode):
    """Gives the noted answers while a model is captured.

    Args:
        runs: The answers in each run of the model: the first, second ... time a place is come to. The last is the
            example's.

    Attributes:
        assumed: Places in the code, ``FILE:LINE``, where the graph takes the answer for known.
    """

    def __init__(self, runs: Sequence[Mapping[Place, list[bool]]]) -> None:
        super().__init__()
        self._runs = runs
        self._asked: dict[Place, int] = defaultdict(int)
        self._holds: list[Tensor] = []
        self.assumed: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, or answer for it."""
        if not torch.compiler.is_dynamo_compiling():
            if _is_question(func, args):
                return self._answer(args[0])
            if func is Tensor.__format__ and args[0].dim() == 0:
                # The number of an expert, say, in the name of a submodule.
                return format(args[0].item(), *args[1:])
            if func in (torch.div, torch.floor_divide) and not any(isinstance(arg, Tensor) for arg in args):
                return _divided(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _answer(self, question: Tensor) -> bool:
        place = _place()
        time = self._asked[place]
        self._asked[place] += 1
        given = [run[place][time] for run in self._runs if len(run.get(place, ())) > time]
        if len(self._runs[-1].get(place, ())) <= time:
            raise RuntimeError(f"data-dependent {place}: the code asks for a value where it did not when the model ran")
        answer = given[-1]
        if len(set(given)) == 1:
            truth = question.reshape(()).bool()
            self._holds.append(truth if answer else ~truth)
            self.assumed.append(f"{Path(place[0]).name}:{place[1]}")
        return answer

    def start(self) -> None:
        """Forget what was asked before."""
        for noted in (self._asked, self._holds, self.assumed):
            noted.clear()

    def checked(self, logits: Tensor) -> Tensor:
        """Return ``logits``, or NaN where an answer differs from the noted one."""
        for holds in self._holds:
            logits = torch.where(holds, logits, torch.nan)
        return logits


class BranchGuard(nn.Module):
    """A module whose logits are NaN where its course is not the known one."""

    def __init__(self, module: nn.Module, course: BranchReplay) -> None:
        super().__init__()
        self.module, self.course = module, course

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the logits."""
        self.course.start()
        with self.course:
            logits = self.module(*tensors)
        return self.course.checked(logits)


def _is_question(func: Any, args: Any) -> bool:
    return func is Tensor.__bool__ or (func is Tensor.item and args[0].dtype == torch.bool)


def _place() -> Place:
    """Return file and line of the code that asks."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_code.co_filename.startswith((_TORCH_FOLDER, __file__)):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _divided(func: Any, args: Any, kwargs: Any) -> Any:
    one, other = args[0], args[1] if len(args) > 1 else kwargs["other"]
    mode = kwargs.get("rounding_mode")
    if func is torch.floor_divide or mode in ("floor", "trunc"):
        # Sizes are not negative: both modes round down.
        return one // other
    return torch.tensor(one) / other
