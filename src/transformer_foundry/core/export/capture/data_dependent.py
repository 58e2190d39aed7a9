"""Captures: the plain one, and a careful one for models whose Python code a graph cannot hold as it is."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.branches import (
    BranchGuard,
    BranchRecorder,
    BranchReplay,
)
from transformer_foundry.core.export.capture.exporter_patches import (
    exportable_copy,
    exporters_quiet,
    exporting_patches,
    without_caches,
)
from transformer_foundry.core.export.capture.shape_guards import relax_shape_guards
from transformer_foundry.core.export.check_shapes import check_shapes
from transformer_foundry.core.export.loops.patch_code import called_code, rewritten
from transformer_foundry.core.system.torch_compat import assume_nonempty_sizes

__all__ = ["Captured", "DimNames", "Inputs", "capture", "capture_with_control_flow"]

Inputs = Callable[[int, int], Mapping[str, Tensor]]
"""``inputs(batch, length)`` -> the keyword tensors of one call."""

DimNames = Mapping[str, tuple[str | int, ...]]
"""Argument -> for each of its dimensions a name, or its size where that never changes."""


@dataclass(frozen=True)
class Captured:
    """A careful capture.

    Attributes:
        program: The graph.
        relaxed_shapes: (batch, length) pairs that the capture would refuse, and their neighbours; to be verified.
        assumed: Places in the code, ``FILE:LINE``, whose answer the graph takes for known: another gives NaN.
    """

    program: torch.export.ExportedProgram
    relaxed_shapes: list[tuple[int, int]]
    assumed: list[str] = field(default_factory=list)


def capture(module: nn.Module, example: Mapping[str, Tensor], names: DimNames) -> torch.export.ExportedProgram:
    """Return ``module`` as a graph whose named dimensions may take any size.

    Raises:
        RuntimeError: Or whatever else the module cannot be captured for.
    """
    # Dim.DYNAMIC refuses a model that fixes a size; Dim.AUTO would fix it silently.
    dynamic = tuple(
        {dim: torch.export.Dim.DYNAMIC for dim, name in enumerate(names[argument]) if isinstance(name, str)}
        for argument in example
    )
    # torch prints the graph that it has so far when it fails.
    with torch.no_grad(), exporting_patches(), exporters_quiet(), contextlib.redirect_stderr(io.StringIO()):
        return torch.export.export(module, tuple(example.values()), dynamic_shapes=(dynamic,), strict=False)


def capture_with_control_flow(
    wrapper: nn.Module, inputs: Inputs, longest: int, example: tuple[int, int], names: DimNames
) -> Captured:
    """Capture a module with its loops over time as operators and its branches on values as they went.

    The model first runs at the shapes at which files are verified: that tells which code it runs (``rewriting``) and
    which way it takes where that depends on values (``course``).

    Args:
        wrapper: The module as exporters take it.
        inputs: Makes the keyword tensors of one call.
        longest: Greatest length.
        example: (batch, length) of the example.
        names: The inputs and their dimensions.

    Raises:
        RuntimeError: Or whatever else the module cannot be captured for.
    """
    module = without_caches(exportable_copy(wrapper))
    runs = []
    with torch.no_grad(), exporting_patches():
        codes = set()
        for shape in [*check_shapes(longest), example]:
            fresh, tensors, now = exportable_copy(module), tuple(inputs(*shape).values()), BranchRecorder()
            with now:
                codes |= called_code(lambda fresh=fresh, tensors=tensors: fresh(*tensors))  # type: ignore[misc]
            runs.append(now.answers)
    course = BranchReplay(runs)
    with rewritten(codes), assume_nonempty_sizes():
        program = capture(BranchGuard(module, course), inputs(*example), names)
    return Captured(program, relax_shape_guards(program, inputs, longest), course.assumed)
