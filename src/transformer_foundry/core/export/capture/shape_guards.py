"""Remove size limits of a captured program that the model does not have, and return the shapes to verify.

A tracer records guards: a ``mask[:T, :T]`` cut out of a table of 128 rows gives ``T != 128``, a window of 8 gives
``T >= 7``, and a file would refuse sizes at which its graph may be right. After a guard is removed, the program must be
verified on both sides of its boundary; a graph that is wrong there fails, and its file is not shipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from transformer_foundry.core.export.capture.torch_export import EXPORTER_ERRORS, Inputs
from transformer_foundry.core.export.verification.parity import check_shapes
from transformer_foundry.core.system.torch_compat import shape_guards, unbounded_range

__all__ = ["relax_shape_guards"]

_GUARDED_SIZE = re.compile(r"L\['tensors'\]\[\d+\]\.size\(\)\[\d+\]")
_MOST_ROWS = 64
_MOST_BOUNDARIES = 12

# torch assumes that every symbolic size is at least 2, without a check at run time.
_UNCHECKED_MINIMUM = 2


def relax_shape_guards(program: torch.export.ExportedProgram, inputs: Inputs, longest: int) -> list[tuple[int, int]]:
    """Remove the guards and ranges by which ``program`` refuses sizes that the model accepts.

    Args:
        program: The captured program; its guards and the ranges of its sizes are changed.
        inputs: Makes the keyword tensors of one call.
        longest: Greatest length.

    Returns:
        (batch, length) pairs on both sides of each boundary, at which the program must be verified.
    """

    def refused_near(guard: str) -> set[tuple[int, int]]:
        near = _near(guard, longest)
        holds = all(_holds(guard, inputs(*shape)) for shape in near.union(check_shapes(longest)))
        return set() if holds else near

    guards = shape_guards(program)
    lifted = {guard: near for guard in guards if (near := refused_near(guard))}
    guards[:] = [guard for guard in guards if guard not in lifted]
    boundaries = sorted(set().union(*lifted.values()))
    ends: set[tuple[int, int]] = set()
    unbounded = unbounded_range()
    for symbol, guard in list(_ranges(program, unbounded.upper)):
        if near := refused_near(guard):
            program.range_constraints[symbol] = unbounded
            ends |= near
    # There are many guards with many numbers each: a selection is verified. A range has two ends, and both matter.
    return sorted(ends.union(boundaries[:: max(1, math.ceil(len(boundaries) / _MOST_BOUNDARIES))]))


def _ranges(program: torch.export.ExportedProgram, infinity: object) -> Iterator[tuple[object, str]]:
    """Yield the symbol of each size with a limited range, and the range in the form of a guard."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    for index, name in enumerate(program.graph_signature.user_inputs):
        for dim, size in enumerate(getattr(values.get(str(name)), "shape", ())):
            symbol = size.node.expr if isinstance(size, torch.SymInt) else None
            if (allowed := program.range_constraints.get(symbol)) is None:
                continue
            lower, upper = (f"L['tensors'][{index}].size()[{dim}] {sign}" for sign in (">=", "<="))
            if allowed.lower > _UNCHECKED_MINIMUM:
                yield symbol, f"{lower} {allowed.lower}"
            if allowed.upper != infinity:
                yield symbol, f"{upper} {allowed.upper}"


def _near(guard: str, longest: int) -> set[tuple[int, int]]:
    """Return the smallest (batch, length) pairs, and those around which the value of ``guard`` may change."""
    numbers = {int(text) for text in re.findall(r"\d+", _GUARDED_SIZE.sub("", guard))}
    sizes = {1, 2} | {number + step for number in numbers for step in (-1, 0, 1)}
    lengths = {(1, size) for size in sizes | {longest} if 1 <= size <= longest}
    return lengths | {(size, min(2, longest)) for size in sizes if 1 <= size <= _MOST_ROWS}


def _holds(guard: str, tensors: Mapping[str, Tensor]) -> bool:
    try:
        return bool(eval(guard, {"L": {"tensors": tuple(tensors.values())}, "max": max, "min": min}))
    except EXPORTER_ERRORS:
        # It needs names of another environment: verification of the file shows whether it holds.
        return False
