"""What every exporter is given: positional tensors in, logits out, sizes that say which dimensions may vary."""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._export.verifier import SpecViolationError

__all__ = [
    "EXPORTER_ERRORS",
    "DimNames",
    "Inputs",
    "LogitsOnly",
    "Source",
    "dynamic_dims",
    "exportable_copy",
    "exporters_quiet",
    "exporting_patches",
    "find_logits",
    "private_copy",
]

Inputs = Callable[[int, int], Mapping[str, Tensor]]
"""``inputs(batch, length)`` -> the keyword tensors of one call."""

DimNames = Mapping[str, tuple[str | int, ...]]
"""Argument -> for each of its dimensions a name, or its size where that never changes."""

# What torch.export, the ONNX translation and TorchScript raise for a model they cannot take: torch's own classes derive
# from RuntimeError, the rest escapes from the model's code run with symbolic sizes or traced values.
EXPORTER_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    ImportError,
    OSError,
    SpecViolationError,
)

# A dimension whose example size is 1 is taken for a constant, and equal sizes are taken for one dimension: sizes are
# at least 2, odd and distinct. The later pairs serve models that compare a size with one of the earlier numbers.
_EXAMPLES = ((3, 7), (5, 11), (11, 5), (7, 3), (5, 2))

_ATTEMPTS = 2

# The tracer writes down which way it went: a mask[:T, :T] cut out of a table of 128 rows gives `T != 128`, a window
# of 8 gives `T >= 7`, and the file would refuse sizes that its graph serves. They are allowed again, and verified.
_GUARDED_SIZE = re.compile(r"L\['tensors'\]\[\d+\]\.size\(\)\[\d+\]")
_MOST_ROWS = 64
_MOST_BOUNDARIES = 12

_EXPORTER_LOGGERS = ("torch.onnx", "torch.export", "torch.fx.experimental", "onnxscript", "onnx_ir")


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


class Source:
    """A module to export: its dimensions by name, and its capture, made when first asked for.

    Args:
        module: The module, in evaluation mode; a private copy.
        inputs: Makes the keyword tensors of one call.
        longest: Greatest length.

    Attributes:
        names: Argument -> its dimensions, as ``dynamic_dims`` gives them.
        wrapper: The module as exporters take it.
        example: (batch, length) of the example that files are made from, None before there is one.
        allowed_again: (batch, length) pairs that the capture would refuse, and their neighbours; to be verified.
    """

    def __init__(self, module: nn.Module, inputs: Inputs, longest: int) -> None:
        self.module, self.inputs, self.longest = module, inputs, longest
        self.names = dynamic_dims(inputs, longest)
        self.wrapper = LogitsOnly(module, tuple(self.names)).eval()
        self.example: tuple[int, int] | None = None
        self.allowed_again: list[tuple[int, int]] = []
        self._program: torch.export.ExportedProgram | None = None
        self._failure: BaseException | None = None

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

    def _try_examples(self) -> None:
        examples: list[tuple[int, int] | None] = [*itertools.islice(self._examples(), _ATTEMPTS)]
        for example in examples or [None]:
            self.example = example
            try:
                self._program = _capture(exportable_copy(self.wrapper), self.example_tensors(), self.names)
                self.allowed_again = _lift_guards(self._program, self.inputs, self.longest)
                return
            except EXPORTER_ERRORS as err:
                # The first failure is about the model; a second example cures sizes that coincide with its own.
                self._failure = self._failure or err

    def _examples(self) -> Iterator[tuple[int, int]]:
        for batch, length in _EXAMPLES:
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


def _capture(module: nn.Module, example: Mapping[str, Tensor], names: DimNames) -> torch.export.ExportedProgram:
    # Dim.DYNAMIC refuses a model that fixes a size; Dim.AUTO would fix it silently.
    dynamic = tuple(
        {dim: torch.export.Dim.DYNAMIC for dim, name in enumerate(names[argument]) if isinstance(name, str)}
        for argument in example
    )
    with torch.no_grad(), exporting_patches(), exporters_quiet():
        return torch.export.export(module, tuple(example.values()), dynamic_shapes=(dynamic,), strict=False)


def _lift_guards(program: torch.export.ExportedProgram, inputs: Inputs, longest: int) -> list[tuple[int, int]]:
    """Remove the guards that refuse a size the model takes; return (batch, length) pairs on both sides of each."""
    # Guards are private to torch; where they are called otherwise, files refuse those sizes and are not shipped.
    guards: list[str] = getattr(program, "_guards_code", [])
    lifted: set[str] = set()
    boundaries: set[tuple[int, int]] = set()
    for guard in guards:
        near = _near(guard, longest)
        if not all(_holds(guard, inputs(*shape)) for shape in near):
            lifted.add(guard)
            boundaries |= near
    guards[:] = [guard for guard in guards if guard not in lifted]
    kept = sorted(boundaries)
    return kept[:: max(1, math.ceil(len(kept) / _MOST_BOUNDARIES))]


def _near(guard: str, longest: int) -> set[tuple[int, int]]:
    """Return the (batch, length) pairs at which the truth of ``guard`` may change, and the smallest ones."""
    numbers = {int(text) for text in re.findall(r"\d+", _GUARDED_SIZE.sub("", guard))}
    sizes = {1, 2} | {number + step for number in numbers for step in (-1, 0, 1)}
    lengths = {(1, size) for size in sizes | {longest} if 1 <= size <= longest}
    return lengths | {(size, min(2, longest)) for size in sizes if 1 <= size <= _MOST_ROWS}


def _holds(guard: str, tensors: Mapping[str, Tensor]) -> bool:
    try:
        return bool(eval(guard, {"L": {"tensors": tuple(tensors.values())}, "max": max, "min": min}))
    except EXPORTER_ERRORS:
        # It is written for another environment: whether it holds is found when the file is verified.
        return False


def private_copy(module: nn.Module) -> nn.Module:
    """Return a copy to work on, in evaluation mode on the CPU: tracing leaves fake tensors in a module's caches."""
    # A result kept as an attribute (torch.nn.utils.weight_norm does so) has a history, and deepcopy refuses it.
    attributes = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    memo = {id(value): value.detach().clone() for value in attributes if not value.is_leaf}
    # Attention chooses its kernel, and with it the layout of its result, by whether gradients are wanted: a capture
    # without them and a translation with them would not fit together.
    return copy.deepcopy(module, memo).cpu().eval().requires_grad_(False)


def exportable_copy(module: nn.Module) -> nn.Module:
    """Return a private copy whose mixtures of experts, where they are transformers' own, can be captured.

    Their usual implementation sorts tokens by expert, which is an operation of its own; another is plain products.
    """
    copied = private_copy(module)
    for part in copied.modules():
        choose = getattr(part, "set_experts_implementation", None)
        if callable(choose):
            with contextlib.suppress(*EXPORTER_ERRORS):
                choose("batched_mm")
    return copied


@contextlib.contextmanager
def exporting_patches() -> Iterator[None]:
    """Let exporters see through modules that they stumble over while the block lasts; results stay the same.

    The fused path of evaluation mode and nested tensors of ``nn.Transformer*`` have no graph form. The test whether a
    mask is causal reads the mask's values; the mask itself is applied either way. A conversion inside forward
    (``self.head.to(x.dtype)``) exchanges parameters, which a capture forbids even where it changes nothing.
    """
    import torch.nn.modules.transformer as layers

    fast = torch.backends.mha.get_fastpath_enabled()
    detect, convert = layers._detect_is_causal_mask, nn.Module.to
    torch.backends.mha.set_fastpath_enabled(False)
    layers._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)  # noqa: ARG005
    nn.Module.to = lambda self, *args, **kwargs: (  # type: ignore[method-assign]
        self if _is_converted(self, *args, **kwargs) else convert(self, *args, **kwargs)
    )
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        layers._detect_is_causal_mask, nn.Module.to = detect, convert  # type: ignore[method-assign]


def _is_converted(module: nn.Module, *args: Any, **kwargs: Any) -> bool:
    """Return whether ``module.to(...)`` with these arguments would change nothing."""
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    tensors = [*module.parameters(), *module.buffers()]
    return memory_format is None and all(
        (device is None or tensor.device == device)
        and (dtype is None or tensor.dtype == dtype or not tensor.is_floating_point())
        for tensor in tensors
    )


@contextlib.contextmanager
def exporters_quiet() -> Iterator[None]:
    """Keep back the exporters' own warnings while the block lasts: what matters ends in the manifest."""
    loggers = [logging.getLogger(name) for name in _EXPORTER_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
