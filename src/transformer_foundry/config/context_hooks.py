"""Decisions on a Kedro context, for every way in: command line, session, notebook, server, package."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.system.process import is_main_process

__all__ = ["ContextHooks", "what_runs"]

_log = logging.getLogger(__name__)

_COMPARISON = "comparison"
_REPLACED = ("training", "__default__")
"""Pipelines in which the comparison replaces training when ``benchmark.models`` is set."""
_SINGLE_MODEL = ("training", "deployment")
"""What it replaces there: it trains several models and packages none."""

_TOKEN = "HF_TOKEN"

_tokens: list[str] = []
"""The token of the last session, if it is in the environment."""

_originals: dict[str, Pipeline] = {}
"""What was registered under the names that are replaced now."""


class ContextHooks:
    """Tells the configuration where the project is, and lets the comparison replace training."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Resolve the parameters, refuse wrong ones, and choose the pipelines that they mean.

        Raises:
            ParameterError: If there is no configuration, or a parameter is wrong.
        """
        loader = context.config_loader
        if isinstance(loader, FoundryConfigLoader):
            loader.project_path = context.project_path
            context.env = loader.env  # None instead of "standard", a preset that was an environment once
        use_token(loader)
        parameters = loader["parameters"]
        benchmark = parameters.get("benchmark") or {}
        replace_training(by_comparison=bool(benchmark.get("models")))

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol[Any, Any], load_versions: dict[str, str] | None) -> None:
        """Refuse a version of what has none: Kedro ignores it.

        Raises:
            ParameterError: With the entry of the catalog.
        """
        for name, version in (load_versions or {}).items():
            if getattr(catalog.get(name), "_version", None) is None:
                raise ParameterError(
                    f"--load-versions asks for {name} as of {version}, but {name} has no versions.",
                    "Expected an entry of the catalog with 'versioned: true'.",
                    f"Add it to {name} in conf/, or leave this version out.",
                )

    @hook_impl(hookwrapper=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> Iterator[None]:
        """Say what runs before other hooks check it: loading the libraries and the model takes seconds."""
        if is_main_process():
            only_missing = ", what is missing of it" if run_params.get("only_missing_outputs") else ""
            _log.info("Running %s%s.", what_runs(pipeline, {**pipelines, **_originals}), only_missing)
        # Kedro has taken the pipelines of this session from its registry, which all sessions of a process share.
        replace_training(by_comparison=False)
        yield


def use_token(config: Mapping[str, Any]) -> None:
    """Let the clients of Hugging Face use the token in the section ``huggingface`` of the credentials.

    They read ``HF_TOKEN``, and so do the processes that they start. One that the user has set counts more; that of an
    earlier session of this process does not.
    """
    try:
        section = config["credentials"].get("huggingface")
    except MissingConfigException:
        section = None
    token = section.get("token") if isinstance(section, Mapping) else None
    if _tokens and os.environ.get(_TOKEN) == _tokens[-1]:
        del os.environ[_TOKEN]
    _tokens.clear()
    if token and not os.environ.get(_TOKEN):
        os.environ[_TOKEN] = str(token)
        _tokens.append(str(token))


def what_runs(pipeline: Pipeline, registered: Mapping[str, Pipeline]) -> str:
    """Return the registered pipelines that run as a whole, then single nodes of others.

    A node belongs to the smallest registered pipeline that contains it.
    """
    smallest: dict[str, str] = {}
    for name, candidate in sorted(registered.items(), key=lambda item: -len(item[1].nodes)):
        smallest |= {node.name: name for node in candidate.nodes}
    running = [node.name for node in pipeline.nodes]
    whole = []
    for name in registered:
        own = {node for node, home in smallest.items() if home == name}
        if own and own <= set(running):
            whole.append(name)
            running = [node for node in running if node not in own]
    return short_list([*whole, *(node.rpartition(".")[2] for node in running)])


def replace_training(*, by_comparison: bool) -> None:
    """Register the comparison as training, or training as itself.

    Kedro keeps the registered pipelines of a process for all sessions, so the start of the run undoes it, and so does
    the next context.
    """
    if not by_comparison and not _originals:
        return
    for name, pipeline in _originals.items():
        if name in pipelines:
            pipelines[name] = pipeline
    _originals.clear()
    if by_comparison and _COMPARISON in pipelines:
        comparison = pipelines[_COMPARISON]
        for name in filter(pipelines.__contains__, _REPLACED):
            _originals[name] = kept = pipelines[name]
            # What a user has added to the default pipeline stays.
            for part in filter(pipelines.__contains__, _SINGLE_MODEL):
                kept -= _originals.get(part, pipelines[part])
            pipelines[name] = kept + comparison
