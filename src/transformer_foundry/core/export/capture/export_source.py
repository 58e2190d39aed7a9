"""What every exporter is given: positional tensors in, logits out, sizes that say which dimensions may vary."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.data_dependent import (
    Captured,
    DimNames,
    Inputs,
    capture,
    capture_with_control_flow,
)
from transformer_foundry.core.export.capture.exporter_patches import EXPORTER_ERRORS, exportable_copy
from transformer_foundry.core.export.capture.shape_guards import relax_shape_guards

__all__ = [
    "DimNames",
    "ExportSource",
    "Inputs",
    "LogitsOnly",
    "dynamic_dims",
    "find_logits",
]

# A dimension whose example size is 1 is taken for a constant, and equal sizes are taken for one dimension: sizes are
# at least 2, odd and distinct. The later pairs serve models that compare a size with one of the earlier numbers.
_EXAMPLES = ((3, 7), (5, 11), (11, 5), (7, 3), (5, 2))

# Long enough for several windows and chunks of what a model cuts its input into.
_LONG_EXAMPLES = ((3, 43), (3, 29), (3, 17))

_ATTEMPTS = 2


class LogitsOnly(nn.Module):
    """Calls a module with named tensors given by position and returns its logits only.

    Args:
        module: Any module whose forward takes the tensors by name.
        names: Argument names, in the order in which the tensors are given.
    """

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the logits of ``module(**{name: tensor})``."""
        return find_logits(self.module(**dict(zip(self.names, tensors, strict=True))))


def find_logits(output: Any) -> Tensor:
    """Return the logits in a module's output: the tensor itself, ``logits``, or the first tensor of a tuple.

    Raises:
        TypeError: If the output holds no tensor.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = output["logits"] if "logits" in output else tuple(output.values())
    elif hasattr(output, "logits"):
        output = output.logits
    if isinstance(output, tuple | list):
        output = next((item for item in output if isinstance(item, Tensor)), None)
    if not isinstance(output, Tensor):
        raise TypeError(f"forward returned {type(output).__name__}, which holds no tensor of logits")
    return output


def dynamic_dims(inputs: Inputs, longest: int) -> dict[str, tuple[str | int, ...]]:
    """Find which dimensions of the inputs follow the batch and which follow the length, by making some.

    Args:
        inputs: Makes the keyword tensors of one call.
        longest: Greatest length that may be asked for.

    Returns:
        Argument -> one entry a dimension: ``batch``, ``length``, ``ARGUMENT_length`` where the size follows the
        length without being it (decoder ids), or the constant size.
    """
    batch, length = 2, min(2, longest)
    other_length = 3 if longest >= 3 else 1
    here, wider, longer = inputs(batch, length), inputs(batch + 1, length), inputs(batch, other_length)
    known: dict[tuple[int, ...], str] = {}
    names: dict[str, tuple[str | int, ...]] = {}
    for argument, tensor in here.items():
        triples = zip(tensor.shape, wider[argument].shape, longer[argument].shape, strict=True)
        names[argument] = tuple(_name_dim(argument, sizes, length, known) for sizes in triples)
    return names


def _name_dim(argument: str, sizes: tuple[int, ...], length: int, known: dict[tuple[int, ...], str]) -> str | int:
    here, wider, longer = sizes
    if here == wider == longer:
        return here
    if here != wider:
        return known.setdefault(sizes, "batch" if "batch" not in known.values() else f"{argument}_batch")
    return known.setdefault(sizes, "length" if here == length else f"{argument}_length")


class ExportSource:
    """A module to export: its dimensions by name, and its capture, made when first asked for.

    Args:
        module: The module, in evaluation mode; a private copy.
        inputs: Makes the keyword tensors of one call.
        longest: Greatest length.

    Attributes:
        names: Argument -> its dimensions, as ``dynamic_dims`` gives them.
        wrapper: The module as exporters take it.
        example: (batch, length) of the example that files are made from, None before there is one.
        relaxed_shapes: (batch, length) pairs that the capture would refuse, and their neighbours; to be verified.
    """

    def __init__(self, module: nn.Module, inputs: Inputs, longest: int) -> None:
        self.module, self.inputs, self.longest = module, inputs, longest
        self.names = dynamic_dims(inputs, longest)
        self.wrapper = LogitsOnly(module, tuple(self.names)).eval()
        self.example: tuple[int, int] | None = None
        self.relaxed_shapes: list[tuple[int, int]] = []
        self._program: torch.export.ExportedProgram | None = None
        self._failure: BaseException | None = None
        self._careful: Captured | None = None
        self._careful_failure: BaseException | None = None

    def example_tensors(self) -> Mapping[str, Tensor]:
        """Return the keyword tensors of the example.

        Raises:
            ValueError: If no example has sizes that keep the dimensions apart.
        """
        self.example = self.example or next(self._examples(), None)
        if self.example is None:
            raise ValueError(f"no example of a length up to {self.longest} has distinct sizes of at least 2")
        return self.inputs(*self.example)

    def program(self) -> torch.export.ExportedProgram:
        """Return the module as a graph whose named dimensions may take any size.

        Raises:
            RuntimeError: Or whatever else the module cannot be captured for; the same at every call.
        """
        if self._program is None and self._failure is None:
            self._try_examples()
        if self._program is None:
            assert self._failure is not None
            raise self._failure
        return self._program

    @property
    def is_captured(self) -> bool:
        """Whether the plain capture was made."""
        return self._program is not None

    def control_flow_capture(self) -> Captured:
        """Return another capture, which takes longer and follows loops over time and branches on values.

        Raises:
            RuntimeError: Or whatever else the module cannot be captured for; the same at every call.
        """
        if self._careful is None and self._careful_failure is None:
            for example in itertools.islice(self._examples((*_LONG_EXAMPLES, *_EXAMPLES)), _ATTEMPTS):
                try:
                    self._careful = capture_with_control_flow(
                        self.wrapper, self.inputs, self.longest, example, self.names
                    )
                    break
                except EXPORTER_ERRORS as err:
                    self._careful_failure = self._careful_failure or err
        if self._careful is None:
            raise self._careful_failure or ValueError("no example of distinct sizes")
        return self._careful

    def _try_examples(self) -> None:
        examples: list[tuple[int, int] | None] = [*itertools.islice(self._examples(), _ATTEMPTS)]
        for example in examples or [None]:
            self.example = example
            try:
                self._program = capture(exportable_copy(self.wrapper), self.example_tensors(), self.names)
                self.relaxed_shapes = relax_shape_guards(self._program, self.inputs, self.longest)
                return
            except EXPORTER_ERRORS as err:
                # The first failure is about the model; a second example cures sizes that coincide with its own.
                self._failure = self._failure or err

    def _examples(self, wanted: tuple[tuple[int, int], ...] = _EXAMPLES) -> Iterator[tuple[int, int]]:
        for batch, length in wanted:
            if length <= self.longest and _are_distinct(self.inputs(batch, length), self.names):
                yield batch, length

    def describe(self) -> dict[str, Any]:
        """Return the inputs and the example for the manifest."""
        tensors = self.inputs(2, min(2, self.longest))
        inputs = [
            {"name": name, "dtype": str(tensors[name].dtype).removeprefix("torch."), "shape": list(dims)}
            for name, dims in self.names.items()
        ]
        return {"inputs": inputs, "example": self.example and dict(zip(("batch", "length"), self.example, strict=True))}


def _are_distinct(tensors: Mapping[str, Tensor], names: DimNames) -> bool:
    sizes = {
        name: size
        for argument, tensor in tensors.items()
        for name, size in zip(names[argument], tensor.shape, strict=True)
        if isinstance(name, str)
    }
    return min(sizes.values(), default=2) >= 2 and len(set(sizes.values())) == len(sizes)
