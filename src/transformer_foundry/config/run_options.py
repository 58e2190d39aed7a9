"""Options of the section ``run``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import Options, check_options, option

__all__ = ["RunOptions"]


_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunOptions(Options):
    """Name of the run, and the runs that it builds on."""

    name: str | None = option(
        None,
        "Folder of the run under 06_models, followed by '-2', '-3', ... for runs with other data or values; null means "
        "the name of the model's folder, followed by '-best' if training.use_best is true.",
    )
    preparation: str | None = option(
        None, "Run whose validation report, tokens and search are used; null means this run."
    )
    on_change: str = option(
        "new",
        "What happens if the run of this name has other data, another model or other values that a resumed run keeps: "
        "new trains another run beside it (gpt-2, gpt-3, ...), refuse stops.",
        choices=("new", "refuse"),
    )
    fork_from: str | None = option(None, "Run (or the folder of one checkpoint) to start from; null starts at step 0.")
    reproduce: str | None = option(
        None,
        "The manifest.json of a run whose training and data settings are used again; model, data and tokenizer are "
        "named in your own configuration.",
    )

    def __post_init__(self) -> None:
        check_options(self, "run")
        for key, value in (("name", self.name), ("preparation", self.preparation)):
            if value is not None and not _SAFE_NAME.fullmatch(value):
                raise ParameterError(
                    f"run.{key} is {value!r}.",
                    "Expected letters, digits, '.', '_' and '-', starting with a letter or digit: it names a folder.",
                    f"Choose another name, for example --params run.{key}=my-gpt.",
                )
