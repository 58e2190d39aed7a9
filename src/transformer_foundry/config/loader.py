"""Kedro's configuration loader, extended: presets, checked parameters, a catalog that reads the parameters."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.utils import find_kedro_project, is_kedro_project
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from transformer_foundry.config.own_nodes import registered_sections
from transformer_foundry.config.parameter_names import check_names, unfold_dotted
from transformer_foundry.config.parameters import (
    SECTIONS,
    TOP_LEVEL,
    check_parameters,
    complete_parameters,
    resolve_paths,
    typed_sections,
    without_empty_sections,
)
from transformer_foundry.config.presets import (
    PRESET_FOLDER,
    PRESETS,
    QUICK,
    SUFFIXES,
    preset_files,
    preset_of_environment,
    require_preset,
    values_of,
)
from transformer_foundry.config.run_name import RunChoice, choose_run
from transformer_foundry.core.base.errors import ParameterError, error_message, find_foundry_error, suggestion
from transformer_foundry.core.base.secrets import remember_secrets
from transformer_foundry.core.base.text import short_list

__all__ = ["FoundryConfigLoader", "entry_of_type", "place_of_entry"]

_log = logging.getLogger(__name__)

_RESOLVER = "parameters"

_KEDROS_SETTINGS = {"base_env": "base", "default_run_env": "local"}
"""Kedro passes these unless settings.py has CONFIG_LOADER_ARGS, which may hold other arguments only."""

_MERGED = {"parameters": "soft", "preset": "soft"}
"""conf/local changes single keys of a section; Kedro's default would replace the whole section."""


class FoundryConfigLoader(OmegaConfigLoader):
    """Loads ``conf/``; ``${parameters:run.name}`` in the catalog reads a parameter from any source.

    ``${parameters:model.revision,null}`` reads a parameter that may be null. Kedro's own ``runtime_params`` resolver
    sees only ``--params``, so a path could disagree with a value set in ``conf/local/parameters.yml``.

    The parameter ``preset`` puts the values of ``presets/NAME.yml`` between ``conf/base`` and ``conf/local``.

    Attributes:
        project_path: Root of the project; None until a session has it.
        run_choice: How the name of the run was found; None until the parameters are read.
    """

    latest_source: ClassVar[Path] = Path("conf")
    """What this process has read last: messages name the file and the line of an entry."""

    def __init__(
        self,
        conf_source: str | Path,
        env: str | None = None,
        runtime_params: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.project_path: Path | None = None
        self.run_choice: RunChoice | None = None
        self._completed: dict[str, Any] | None = None
        environments = _environments_in(str(conf_source))
        if preset := preset_of_environment(env, environments or ()):
            _log.info("--env %s means --params preset=%s now; conf/local counts on top of it.", preset, preset)
            env, runtime_params = None, {"preset": preset} | dict(runtime_params or {})
        settings = _KEDROS_SETTINGS | settings
        runtime_params = without_empty_sections(unfold_dotted(runtime_params or {}))
        default = settings.get("default_run_env")
        if default and environments and default not in environments:
            settings["default_run_env"] = settings.get("base_env")  # an archive of conf/ may lack the empty conf/local
        settings["merge_strategy"] = _MERGED | (settings.get("merge_strategy") or {})
        FoundryConfigLoader.latest_source = Path(conf_source)
        super().__init__(conf_source, env=env, runtime_params=runtime_params, **settings)

    def __getitem__(self, key: str) -> dict[str, Any]:
        # Resolvers are global and a notebook opens many sessions: register the resolver of this loader.
        OmegaConf.register_new_resolver(_RESOLVER, self._parameter, replace=True)
        if key in ("parameters", "catalog"):
            self._require_folders()
        try:
            if key == "parameters":
                # Once for each loader: the catalog asks a hundred times, and each read costs 25 ms.
                self._completed = self._completed or self._complete()
                return copy.deepcopy(self._completed)
            config = super().__getitem__(key)
        except OmegaConfBaseException as err:
            raise _unresolved(err, key) from err
        if key == "credentials":
            remember_secrets(config)
        elif key == "catalog":
            self._require_credentials(config)
        return config

    def __setitem__(self, key: str, value: Any) -> None:
        self._completed = None
        super().__setitem__(key, value)

    def data_dir(self) -> str:
        """Return the root of all output, whatever other parameters are."""
        self._require_folders()
        config = resolve_paths(self._merged(), self._project)
        return str(config.get("data_dir", "data"))

    def _require_credentials(self, catalog: Mapping[str, Any]) -> None:
        """Refuse an entry with credentials that are not there: Kedro would name neither the entry nor its file."""
        wanted = {name: _credentials_in(entry) for name, entry in catalog.items()}
        if not any(wanted.values()):
            return
        try:
            known = list(self["credentials"])
        except MissingConfigException:
            known = []
        for name, found in wanted.items():
            for missing in sorted(found - {*known}):
                place = place_of_entry(name)
                raise ParameterError(
                    f"The entry {name} of the catalog{f' ({place})' if place else ''} has credentials: {missing}, "
                    f"which credentials.yml does not have.{suggestion(missing, known)}",
                    f"Known: {short_list(known)}." if known else "There is no section of credentials in conf/.",
                    f"Add the section {missing} to conf/local/credentials.yml, or correct the entry.",
                )

    @property
    def _folder(self) -> Path:
        return Path(self.conf_source)

    @property
    def _project(self) -> Path:
        """Root of the paths in the parameters: that of the session, which may read another ``--conf-source``."""
        if self.project_path is not None:
            return self.project_path
        parent = self._folder.resolve().parent
        return parent if is_kedro_project(parent) else find_kedro_project(Path.cwd()) or Path.cwd()

    def _complete(self) -> dict[str, Any]:
        given = self.runtime_params or {}
        self.runtime_params = without_empty_sections(given, _more_sections(given))
        config = self._merged()
        check_names(config, given=self.runtime_params, files=self._texts)
        completed = complete_parameters(resolve_paths(config, self._project))
        check_parameters(completed)
        named = self._named(resolve_paths(completed, self._project))  # run.reproduce brings recorded paths
        return typed_sections(named, _more_sections(named))

    def _named(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return ``parameters`` with the name of the run that the command works on."""
        self.run_choice = choose_run(parameters)
        names = {"name": self.run_choice.name, "preparation": self.run_choice.preparation}
        return {**parameters, "run": {**parameters["run"], **names}}

    def _merged(self) -> dict[str, Any]:
        """Return the parameters of ``conf/base``, the preset, the environment and the command line, in this order."""
        env = self.env or self.default_run_env
        base = self._parameters_of(self.base_env)
        given = values_of(base, self.runtime_params or {})
        own = {} if env == self.base_env else self._parameters_of(env)
        if env != self.base_env and self.merge_strategy["parameters"] == "destructive":
            replaced = self._sections_of(env)
        else:
            replaced = set()
        preset = self._preset((base | own | given).get("preset", QUICK), env)
        others = _more_sections(base | preset | own | given)
        layers = (
            {key: value for key, value in without_empty_sections(layer, others).items() if key not in hidden}
            for layer, hidden in ((base, replaced), (preset, replaced), (own, ()), (given, ()))
        )
        merged = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.create, layers)))
        assert isinstance(merged, dict)
        return {str(key): value for key, value in merged.items()}

    def _preset(self, name: object, env: str) -> dict[str, Any]:
        """Return the values of a preset of ``conf/base`` or of the environment; quick may be ``conf/base`` itself."""
        read, elsewhere = set[str](), dict[str, str]()
        for owner in self._environments:
            files = self._fs.glob(f"{self._get_conf_env_path(owner)}/{PRESET_FOLDER}/*")
            names = {Path(path).stem for path in files if path.endswith(SUFFIXES)}
            if owner in (self.base_env, env):
                read |= names
            else:
                elsewhere |= dict.fromkeys(names, owner)
        found = require_preset(name, read, elsewhere)
        if found not in read:
            return {}
        self.config_patterns["preset"] = preset_files(found)
        return dict(super().__getitem__("preset"))

    def _sections_of(self, env: str) -> set[str]:
        """Return the keys at the top of an environment's files of parameters."""
        found = set[str]()
        for pattern in self.config_patterns["parameters"]:
            for path in self._fs.glob(f"{self._get_conf_env_path(env)}/{pattern}"):
                if path.endswith(SUFFIXES):
                    found |= {*without_empty_sections(OmegaConf.create(self._fs.cat_file(path).decode()))}
        return found

    def _texts(self) -> dict[str, str]:
        """Return the files of ``conf/``, also those of an archive, by path: all that Kedro could read."""
        paths = [path for env in self._environments for path in self._fs.find(self._get_conf_env_path(env))]
        files = [path for path in paths if path.endswith(SUFFIXES)]
        return {path: self._fs.cat_file(path).decode(errors="ignore") for path in files}

    @property
    def _environments(self) -> list[str]:
        """All environments; of a remote ``conf/`` those that are read."""
        found = _environments_in(str(self.conf_source))
        return [*{self.base_env, self.env or self.default_run_env}] if found is None else found

    def _parameters_of(self, env: str) -> dict[str, Any]:
        """Return the parameters of one environment alone."""
        before = self.base_env, self.env
        self.base_env = self.env = env
        try:
            return dict(super().__getitem__("parameters"))
        except AttributeError as err:  # Kedro expects a mapping without checking it
            raise ParameterError(
                f"A file with parameters in {self._folder / env} is a list or a single value.",
                "Expected sections with indented keys, for example 'training:' with 'max_steps: 400' below it.",
                "Correct the file.",
            ) from err
        finally:
            self.base_env, self.env = before

    def _require_folders(self) -> None:
        """Refuse a ``conf/`` or an environment that is not there, in an archive too; Kedro finds remote ones."""
        folder, known = self._folder, _environments_in(str(self.conf_source))
        if known is None:
            return
        if self.base_env not in known:
            raise ParameterError(
                f"There is no configuration in {folder.absolute()}.",
                f"Expected a folder conf with {self.base_env}/catalog.yml; 'kedro package' writes it as "
                "conf-transformer_foundry.tar.gz beside the wheel.",
                "Unpack that file here, or name the folder with --conf-source FOLDER.",
            )
        env = self.env or self.default_run_env
        if env not in known:
            raise ParameterError(
                f"There is no environment {env!r} in {folder}.{suggestion(env, [*known, *PRESETS])}",
                f"Environments are folders of conf/: {short_list(known)}. Presets are a parameter: preset=standard.",
                f"Use one of these names, create the folder {env} there, or leave --env out.",
            )

    def _parameter(self, path: str, *default: Any) -> Any:
        value: Any = self["parameters"] if self._completed is None else self._completed
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None and not default:
            raise ParameterError(
                f"The catalog reads the parameter {path}, which has no value.",
                "Expected a value: the path of an entry contains it.",
                f"Set {path} in conf/ or with --params {path}=VALUE.",
            )
        return default[0] if value is None else value


def _more_sections(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the names under which registered pipelines read our sections; none if all parameters are ours."""
    # Kedro imports the pipelines for it.
    return registered_sections() if parameters.keys() - SECTIONS.keys() - {*TOP_LEVEL} else {}


def place_of_entry(name: str, kind: str = "catalog") -> str:
    """Return the file and the line of an entry of the catalog, or of other configuration; empty if there is none.

    Example:
        >>> place_of_entry("no_such_entry")
        ''
    """
    return next((place for _, place in _find_lines(rf"""["']?{re.escape(name)}["']?\s*:""", kind)), "")


def entry_of_type(kind: str) -> str:
    """Return the name of the first entry of the catalog with a type of this class; empty if there is none."""
    return next((entry for entry, _ in _find_lines(rf"""\s+type\s*:.*\b{re.escape(kind)}["']?\s*$""", "catalog")), "")


def _find_lines(pattern: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the top-level key and the place of each line that begins with a pattern, those of conf/base last."""
    source = FoundryConfigLoader.latest_source
    files = [
        path
        for path in source.rglob("*.y*ml")
        if path.is_file() and any(part.startswith(kind) for part in path.relative_to(source).parts)
    ]
    for path in sorted(files, key=lambda path: (path.is_relative_to(source / "base"), path)):
        key = ""
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if line[:1].strip() and line[0] not in "#-":
                key = line.partition(":")[0].strip("\"' ")
            if re.match(pattern, line):
                shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
                yield key, f"{shown}, line {number}"


def _environments_in(conf_source: str) -> list[str] | None:
    """Return the folders of a ``conf/`` or of an archive of one; None if it is remote."""
    if "://" in conf_source:
        return None
    if not Path(conf_source).exists():
        return []
    if Path(conf_source).is_dir():
        names = [path.name for path in Path(conf_source).iterdir() if path.is_dir()]
    else:
        fs, protocol = OmegaConfigLoader._initialise_filesystem_and_protocol(conf_source)
        if protocol == "file":  # no archive
            return []
        items = fs.ls(fs.ls("", detail=False)[-1], detail=True)
        names = [Path(item["name"]).name for item in items if item["type"] == "directory"]
    return sorted(name for name in names if not name.startswith("."))


def _credentials_in(config: Any) -> set[str]:
    """Return the names after ``credentials`` in an entry, also in one within another: that of a cached dataset."""
    if not isinstance(config, Mapping):
        return set()
    name = config.get("credentials")
    return ({name} if isinstance(name, str) else set()).union(*map(_credentials_in, config.values()))


def _unresolved(error: OmegaConfBaseException, kind: str) -> Exception:
    """Return the error for a value of the configuration that cannot be resolved, with its key and file."""
    found = find_foundry_error(error)
    key = str(getattr(error, "full_key", None) or "")
    place = place_of_entry(key.partition(".")[0], kind) if key else ""
    if not key:  # omegaconf 2.3 names none when a whole file is resolved
        named = re.search(r"'([^']+)'", str(error))
        places = _find_lines(rf".*\$\{{[^}}]*{re.escape(named[1])}\b", kind) if named else iter(())
        key, place = next(places, ("", ""))
    if found is not None or not key:
        return found or error
    reason = (
        error_message(error, first_line=True)
        .removeprefix("KeyError raised while resolving interpolation: ")
        .strip("\"'")
    )
    is_environment = "oc.env" in reason and kind != "credentials"
    expected = "Kedro reads the environment in credentials.yml only." if is_environment else "Expected a value for it."
    remedy = "Set the variable" if "Environment variable" in reason else "Correct the value"
    return ParameterError(
        f"{key} of the {kind}{f' ({place})' if place else ''} cannot be read: {reason}.",
        expected,
        f"{remedy}, or remove {key}.",
    )
