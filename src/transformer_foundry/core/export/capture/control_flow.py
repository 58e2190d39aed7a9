"""Capture models with control flow: loops over time become operators, branches on values are fixed and guarded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from transformer_foundry.core.export.capture.branches import BranchGuard, BranchRecorder, BranchReplay
from transformer_foundry.core.export.capture.shape_guards import relax_shape_guards
from transformer_foundry.core.export.capture.torch_export import (
    DimNames,
    Inputs,
    capture,
    exportable_copy,
    exporting_patches,
    without_caches,
)
from transformer_foundry.core.export.loops.patch_code import called_code, rewritten
from transformer_foundry.core.export.verification.parity import check_shapes
from transformer_foundry.core.system.torch_compat import assume_nonempty_sizes

__all__ = ["Captured", "capture_with_control_flow"]


@dataclass(frozen=True)
class Captured:
    """A capture with control flow.

    Attributes:
        program: The graph.
        relaxed_shapes: (batch, length) pairs around sizes that the capture had excluded; to be verified.
        assumed: Places in the code, ``FILE:LINE``, at which the graph fixes a branch; it returns NaN in the other one.
    """

    program: torch.export.ExportedProgram
    relaxed_shapes: list[tuple[int, int]]
    assumed: Sequence[str] = ()

    @property
    def note(self) -> str:
        """What users of a file should know: the branches it takes for granted, empty without any."""
        places = sorted(set(self.assumed))
        return f"answers NaN where the model would take another way at {', '.join(places)}" if places else ""


def capture_with_control_flow(
    wrapper: nn.Module, inputs: Inputs, longest: int, example: tuple[int, int], names: DimNames
) -> Captured:
    """Capture a module with its loops over time as operators and its branches on values fixed.

    The model first runs at the shapes at which files are verified. These runs show which functions it calls
    (``loops.patch_code``) and which branches it takes where they depend on values (``branches``).

    Args:
        wrapper: The module as exporters take it.
        inputs: Makes the keyword tensors of one call.
        longest: Greatest length.
        example: (batch, length) of the example.
        names: The inputs and their dimensions.

    Raises:
        RuntimeError: Or another of ``EXPORTER_ERRORS``, if the module cannot be captured.
    """
    module = without_caches(exportable_copy(wrapper))
    runs = []
    codes = set()
    with torch.no_grad(), exporting_patches():
        for shape in [*check_shapes(longest), example]:
            fresh, tensors, recorder = exportable_copy(module), tuple(inputs(*shape).values()), BranchRecorder()
            with recorder:
                codes |= called_code(lambda fresh=fresh, tensors=tensors: fresh(*tensors))  # type: ignore[misc]
            runs.append(recorder.answers)
    replay = BranchReplay(runs)
    with rewritten(codes), assume_nonempty_sizes():
        program = capture(BranchGuard(module, replay), inputs(*example), names)
    return Captured(program, relax_shape_guards(program, inputs, longest), replay.assumed)
