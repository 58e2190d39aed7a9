"""Kedro's configuration loader, extended: checks parameters before anything runs, lets the catalog read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from transformer_foundry.config.parameters import check_parameters, complete_parameters, resolve_paths
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.secrets import remember_secrets

__all__ = ["FoundryConfigLoader"]

_RESOLVER = "parameters"


class FoundryConfigLoader(OmegaConfigLoader):
    """Loads ``conf/``; ``${parameters:run.name}`` in the catalog reads a parameter from any source.

    ``${parameters:model.revision,null}`` reads a parameter that may be null. Kedro's own ``runtime_params`` resolver
    sees only ``--params``, so a path could disagree with a value set in ``conf/local/parameters.yml``.
    """

    _read_parameters: Any = None

    def __getitem__(self, key: str) -> dict[str, Any]:
        # Resolvers are global and a notebook opens many sessions: register the resolver of this loader.
        OmegaConf.register_new_resolver(_RESOLVER, self._parameter, replace=True)
        config = super().__getitem__(key)
        if key == "credentials":
            remember_secrets(config)
        if key != "parameters":
            return config
        completed = complete_parameters(config)
        check_parameters(completed)
        return resolve_paths(completed, Path(self.conf_source).resolve().parent)

    def _parameter(self, path: str, *default: Any) -> Any:
        # Read once: the catalog asks a hundred times, and each read costs 25 ms.
        if self._read_parameters is None:
            self._read_parameters = OmegaConf.create(self["parameters"])
        value = OmegaConf.select(self._read_parameters, path)
        if value is None and not default:
            raise ParameterError(
                f"conf/base/catalog.yml reads the parameter {path}, which has no value.",
                "Expected a value: the path of an entry contains it.",
                f"Set {path} in conf/ or with --params {path}=VALUE.",
            )
        return default[0] if value is None else value


# A preset changes single keys of a section; Kedro's default would replace the whole section.
CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local", "merge_strategy": {"parameters": "soft"}}
