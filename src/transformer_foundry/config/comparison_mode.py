"""Pipelines and models of a run with ``benchmark.models``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["compared_models", "compared_pipelines"]


def compared_models(source: Path, env: str | None, given: Mapping[str, Any]) -> list[str]:
    """Return ``benchmark.models`` from ``given`` or, if absent there, from the configuration files.

    Args:
        source: The folder ``conf``; it may be missing.
        env: The preset.
        given: Parameters of the command line or of a notebook, by section.
    """
    from transformer_foundry.config.loader import CONFIG_LOADER_ARGS, FoundryConfigLoader

    if not source.is_dir():
        return list((given.get("benchmark") or {}).get("models") or [])
    settings: dict[str, Any] = dict(CONFIG_LOADER_ARGS)
    loader = FoundryConfigLoader(str(source), env=env, runtime_params=dict(given), **settings)
    return list((loader["parameters"].get("benchmark") or {}).get("models") or [])


def compared_pipelines(names: Sequence[str]) -> list[str]:
    """Return the pipelines of a run with ``benchmark.models``: the comparison replaces training.

    Example:
        >>> compared_pipelines(["training"]), compared_pipelines([])
        (['comparison'], ['validation', 'data_engineering', 'comparison'])
    """
    chosen = names or ("validation", "data_engineering", "training")
    return ["comparison" if name == "training" else name for name in chosen]
