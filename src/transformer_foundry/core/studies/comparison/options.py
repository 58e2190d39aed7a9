"""Options of the section ``benchmark``: the models that are compared and their budget."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import Options, check_options, option

__all__ = ["BUDGETS", "BenchmarkOptions"]

BUDGETS = ("tokens", "flops", "minutes")


@dataclass(frozen=True)
class BenchmarkOptions(Options):
    """The models that are compared, and the budget of each.

    Raises:
        ParameterError: If a value has the wrong type or lies outside its range.
    """

    models: list[str] = option(
        [],
        "Folders of exports and names of reference architectures (gpt2, llama, bert ...); the others are "
        "compared with the first. Empty compares nothing.",
    )
    seeds: int = option(3, "Trainings of each model, each with its own order of the data.", minimum=1)
    tokens: float | None = option(None, "Tokens of a training; null is training.max_steps.", above=0, unit="tokens")
    flops: float | None = option(None, "Floating point operations of a training.", above=0)
    minutes: float | None = option(None, "Minutes of a training.", above=0, unit="minutes")

    def __post_init__(self) -> None:
        check_options(self, "benchmark")
        if len(self.models) == 1:
            raise ParameterError(
                f"benchmark.models names one model, {self.models[0]}.",
                "Expected at least two; the others are compared with the first.",
                "Set --params benchmark.models=[FOLDER,gpt2].",
            )
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ParameterError(
                f"benchmark.{given[0]} and benchmark.{given[1]} are both given.",
                "Expected one budget for a training.",
                "Leave one of them out.",
            )
