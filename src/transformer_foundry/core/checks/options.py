"""Options of validation: section ``validation`` of the parameters."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.base.options import Options, check_options, option

__all__ = ["ValidationOptions"]


@dataclass(frozen=True)
class ValidationOptions(Options):
    """Thoroughness of the checks, and what training does with a model that has errors."""

    tier: int = option(1, "1: the checks of about a minute; 2: the thorough ones too.", choices=(1, 2))
    on_errors: str = option("refuse", "What training does with a model that has errors.", choices=("refuse", "warn"))

    def __post_init__(self) -> None:
        check_options(self, "validation")
