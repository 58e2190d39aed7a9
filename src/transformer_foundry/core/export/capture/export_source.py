"""The source of an export: a module with positional tensors in and logits out, its named dimensions, its captures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.control_flow import Captured, capture_with_control_flow
from transformer_foundry.core.export.capture.shape_guards import relax_shape_guards
from transformer_foundry.core.export.capture.torch_export import (
    EXPORTER_ERRORS,
    DimNames,
    Inputs,
    capture,
    exportable_copy,
)
from transformer_foundry.core.models.inference.call import follow
from transformer_foundry.core.models.inference.output_format import logits_path

__all__ = ["ExportSource", "LogitsOnly", "dynamic_dims"]

# torch.export takes a size of 1 for a constant and equal sizes for one dimension: sizes are at least 2, odd and
# distinct. The later pairs are for models that compare a size with one of the earlier numbers.
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
        self._path: Sequence[Sequence[Any]] | None = None

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the logits of ``module(**{name: tensor})``."""
        output = self.module(**dict(zip(self.names, tensors, strict=True)))
        if self._path is None:  # known before a capture: reference cases are made first
            self._path = logits_path(self.module, tensors, output)
        return follow(output, self._path)


def dynamic_dims(inputs: Inputs, longest: int) -> dict[str, tuple[str | int, ...]]:
    """Find which dimensions of the inputs follow the batch and which the length, from inputs of several sizes.

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
    """A module to export: its dimensions by name, and its captures, made when they are first used.

    Args:
        module: The module, in evaluation mode; a private copy.
        inputs: Makes the keyword tensors of one call.
        longest: Greatest length.
        write_weights: Writes the weights to a path; None writes the module's state.

    Attributes:
        names: Argument -> its dimensions, as ``dynamic_dims`` gives them.
        wrapper: The module as exporters take it.
        example: (batch, length) of the example that files are made from, None before there is one.
        relaxed_shapes: (batch, length) pairs around sizes that the plain capture had excluded; to be verified.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Inputs,
        longest: int,
        write_weights: Callable[[Path], None] | None = None,
    ) -> None:
        self.module, self.inputs, self.longest, self.write_weights = module, inputs, longest, write_weights
        self.names = dynamic_dims(inputs, longest)
        self.wrapper = LogitsOnly(module, tuple(self.names)).eval()
        self.example: tuple[int, int] | None = None
        self.relaxed_shapes: list[tuple[int, int]] = []
        self._program: torch.export.ExportedProgram | None = None
        self._failure: BaseException | None = None
        self._control_flow: Captured | None = None
        self._control_flow_failure: BaseException | None = None

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
        """Return the plain capture, a graph whose named dimensions may have any size.

        Raises:
            RuntimeError: Or another of ``EXPORTER_ERRORS``; the same at every call.
        """
        if self._program is None and self._failure is None:
            self._try_examples()
        if self._program is None:
            assert self._failure is not None
            raise self._failure
        return self._program

    def second_capture(self, failure: str) -> Captured | None:
        """Return the capture with control flow for a format whose file from the plain one could not be used.

        Args:
            failure: Why the file could not be written; empty if it was written and is wrong.

        Returns:
            None if the model cannot be captured in this way, and if the plain capture was made but could not be
            written: it has an operator that the format lacks, and so has another capture.
        """
        if failure and self._program is not None:
            return None
        try:
            return self.control_flow_capture()
        except EXPORTER_ERRORS:
            # The reason of the first failure is the one about the model.
            return None

    def control_flow_capture(self) -> Captured:
        """Return the capture that follows loops over time and branches on values; it takes longer.

        Raises:
            RuntimeError: Or another of ``EXPORTER_ERRORS``; the same at every call.
        """
        if self._control_flow is None and self._control_flow_failure is None:
            for example in itertools.islice(self._examples((*_LONG_EXAMPLES, *_EXAMPLES)), _ATTEMPTS):
                try:
                    self._control_flow = capture_with_control_flow(
                        self.wrapper, self.inputs, self.longest, example, self.names
                    )
                    break
                except EXPORTER_ERRORS as err:
                    self._control_flow_failure = self._control_flow_failure or err
        if self._control_flow is None:
            raise self._control_flow_failure or ValueError("no example of distinct sizes")
        return self._control_flow

    def _try_examples(self) -> None:
        examples: list[tuple[int, int] | None] = [*itertools.islice(self._examples(), _ATTEMPTS)]
        for example in examples or [None]:
            self.example = example
            try:
                self._program = capture(exportable_copy(self.wrapper), self.example_tensors(), self.names)
                self.relaxed_shapes = relax_shape_guards(self._program, self.inputs, self.longest)
                return
            except EXPORTER_ERRORS as err:
                # The first failure is about the model; a second example avoids sizes that coincide with its constants.
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
