"""Options of packaging and publishing: the section ``deployment`` of the parameters."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass

from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.base.options import Options, check_options, option
from transformer_foundry.core.export.formats.table import FORMAT_FILES, GGUF_FORMAT, TRANSFORMERS_FORMAT

__all__ = ["DeploymentOptions", "is_repo_id"]

_DEFAULT_FORMATS = [*FORMAT_FILES, TRANSFORMERS_FORMAT]
_ALL_FORMATS = [*_DEFAULT_FORMATS, GGUF_FORMAT]

# The rule of huggingface_hub.utils.validate_repo_id; the Hub itself also requires the owner.
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")


@dataclass(frozen=True)
class DeploymentOptions(Options):
    """Which formats are made, where the package is published, and what the card says."""

    formats: list[str] = option(
        _DEFAULT_FORMATS,
        "Formats to make; pytorch (weights and code) is always made, gguf (llama.cpp, Ollama) only if it is named.",
    )
    hub_repo: str | None = option(None, "Hugging Face repository USER/NAME to publish to; null publishes nothing.")
    hub_private: bool = option(True, "Whether a repository made by publishing is private.")
    page: bool = option(True, "Whether the package has a page on which a visitor can try the model in a browser.")
    hub_overwrite: bool = option(False, "Whether to publish into a repository that holds something else.")
    model_name: str | None = option(None, "Name of the model in the registry; null takes that of the export.")
    license: str = option("apache-2.0", "License of the published model, by its identifier on the Hub.")
    language: str = option("en", "Language of the training text, as an ISO 639 code.")
    tolerance: float = option(
        1e-4,
        "Largest difference allowed between a format's logits and the model's, times the largest logit when that is "
        "above 1.",
        above=0,
        maximum=0.1,
    )

    def __post_init__(self) -> None:
        check_options(self, "deployment")
        for name in self.formats:
            if name not in _ALL_FORMATS:
                raise ParameterError(
                    f"deployment.formats names {name!r}.{suggestion(name, _ALL_FORMATS)}",
                    f"Known formats: {', '.join(_ALL_FORMATS)}.",
                    "Set deployment.formats in conf/ to a list of these.",
                )
        self._check_gguf()
        if self.hub_repo is not None and not is_repo_id(self.hub_repo):
            raise ParameterError(
                f"deployment.hub_repo is {self.hub_repo!r}.",
                "Expected USER/NAME: letters, digits, '-', '_' and '.', no '--' or '..', not ending in '.git'.",
                "Set it to a repository of yours, for example --params deployment.hub_repo=alice/my-gpt.",
            )
        if not _LANGUAGE.fullmatch(self.language):
            raise ParameterError(
                f"deployment.language is {self.language!r}.",
                "Expected an ISO 639 code of two or three small letters, 'code' or 'multilingual'.",
                "Set it, for example to en.",
            )

    def _check_gguf(self) -> None:
        if GGUF_FORMAT not in self.formats:
            return
        if TRANSFORMERS_FORMAT not in self.formats:
            raise ParameterError(
                "deployment.formats names gguf without transformers.",
                "Expected both: model.gguf is made from the model in its native architecture of transformers.",
                "Add transformers to deployment.formats.",
            )
        if importlib.util.find_spec("gguf") is None:
            raise ParameterError(
                "deployment.formats names gguf, which needs the package gguf; it is not installed.",
                "Expected a format whose package is installed.",
                "Install it (pip install gguf), or leave gguf out of deployment.formats.",
            )


def is_repo_id(name: str) -> bool:
    """Return whether ``name`` can name a repository of the Hub, with its owner.

    Example:
        >>> is_repo_id("alice/gpt"), is_repo_id("gpt"), is_repo_id("alice/a--b")
        (True, False, False)
    """
    parts = name.split("/")
    sound = len(parts) == 2 and all(_REPO_PART.fullmatch(part) for part in parts)
    return sound and "--" not in name and ".." not in name and not name.endswith(".git")
