"""Whether the processes that torchrun started may run a pipeline: they train together, and share nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.system.process import count_processes

__all__ = ["require_alone"]

_ALONE = ("validation", "data_engineering", "tuning", "deployment")
"""Pipelines of one process: several would do the same work at the same time and write the same files."""


def require_alone(names: Sequence[str]) -> None:
    """Refuse pipelines that only one process can run, if torchrun started several.

    Args:
        names: The pipelines that were asked for; none for the default, which has all stages.

    Raises:
        ParameterError: With the command to use.
    """
    count = count_processes()
    refused = [name for name in names if name in _ALONE]
    if count == 1 or (names and not refused):
        return
    asked = f"--pipelines {','.join(names)}" if names else "all stages"
    if names and not {"training", "comparison"} & {*names}:
        remedy = f"Run it without torchrun: kedro run --pipelines {','.join(names)}."
    else:
        before = ",".join(name for name in refused if name in ("validation", "data_engineering"))
        wanted = "comparison" if "comparison" in names else "training"
        remedy = (
            f"First 'kedro run --pipelines {before or 'validation,data_engineering'}', then "
            f"'torchrun --nproc-per-node {count} -m kedro run --pipelines {wanted}'"
        )
        remedy += ", then 'kedro run --pipelines deployment'." if not names or "deployment" in names else "."
    raise ParameterError(
        f"torchrun started {count} processes, which cannot run {asked}.",
        "Only --pipelines training or comparison: the others would do the same work and write the same files "
        f"{count} times.",
        remedy,
    )
