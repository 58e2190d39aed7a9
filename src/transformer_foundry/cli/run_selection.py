"""Check the options of ``kedro run`` against what is registered, before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner
from kedro.utils import load_obj

from transformer_foundry.config.context_hooks import replace_training
from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.hooks.preflight.processes import require_alone
from transformer_foundry.pipelines.stages import StagedPipeline, bare_name

__all__ = ["check_selection", "make_runner", "require_known"]

_DEFAULT = "__default__"
_COMPARISON = "comparison"
_DEFAULT_RUNNER = "SequentialRunner"

_NODE_OPTIONS = {"node_names": "--nodes", "from_nodes": "--from-nodes", "to_nodes": "--to-nodes"}
_DATASET_OPTIONS = {"from_inputs": "--from-inputs", "to_outputs": "--to-outputs"}
_OPTION_NAMES = {**_NODE_OPTIONS, **_DATASET_OPTIONS, "tags": "--tags", "namespaces": "--namespaces"}


def check_selection(options: Mapping[str, Any]) -> None:
    """Refuse options of ``kedro run`` that select nothing, or what is not there.

    Raises:
        ParameterError: If an option names something that is not there, with the nearest name, or a pipeline that the
            processes of torchrun cannot run.
    """
    if options.get("pipeline") and options.get("pipelines"):
        raise ParameterError(
            f"--pipeline is {options['pipeline']} and --pipelines is {','.join(options['pipelines'])}.",
            "Expected one of the two options; --pipeline is the old name.",
            f"Use --pipelines {options['pipeline']},{','.join(options['pipelines'])}.",
        )
    requested = [options["pipeline"]] if options.get("pipeline") else list(options.get("pipelines") or [])
    require_alone(requested)
    known = sorted(name for name in pipelines if name != _DEFAULT)
    require_known("pipeline", requested, known, "Use one of these names, or leave --pipelines out to run the default.")
    selects = any(options.get(key) for key in (*_OPTION_NAMES, "load_versions", "is_async", "runner_params"))
    compares = selects and _compares_models(options)
    chosen = _pipelines_of(requested, by_comparison=compares)
    _check_names(options, chosen, compares=compares)
    make_runner(options)
    selected = _selected(options, chosen)
    if options.get("is_async") or (options.get("runner_params") or {}).get("is_async"):
        _refuse_async(selected)


def require_known(kind: str, names: Iterable[str], known: Sequence[str], remedy: str) -> None:
    """Refuse a name that is not known.

    Raises:
        ParameterError: With the nearest name.
    """
    for name in names:
        if name not in known:
            raise ParameterError(
                f"There is no {kind} named {name!r}.{suggestion(name, known)}",
                f"Known: {short_list(known, limit=12)}." if known else f"This run has no {kind}.",
                remedy,
            )


def _pipelines_of(requested: Sequence[str], *, by_comparison: bool) -> Pipeline:
    """Return what the run chooses from: the comparison in place of training, if there are models to compare."""
    replace_training(by_comparison=by_comparison)
    try:
        return sum((pipelines[name] for name in [*(requested or [_DEFAULT])]), Pipeline([]))
    finally:
        replace_training(by_comparison=False)


def _compares_models(options: Mapping[str, Any]) -> bool:
    session = KedroSession.create(
        env=options.get("env"), conf_source=options.get("conf_source"), runtime_params=options.get("params")
    )
    # The configuration alone: a context would call the hooks of plugins once more.
    parameters = session._get_config_loader()["parameters"]
    return bool((parameters.get("benchmark") or {}).get("models"))


def _check_names(options: Mapping[str, Any], chosen: Pipeline, *, compares: bool) -> None:
    require_in = partial(_require_in, chosen, compares=compares)
    for key, option in _NODE_OPTIONS.items():
        for name in options.get(key) or []:
            names_in = _full_names if "." in name else _node_names
            require_in("node", [name], names_in, f"Use one of these names after {option}.")
    for key, option in _DATASET_OPTIONS.items():
        names_in = _outputs if key == "to_outputs" else _datasets
        require_in("dataset", options.get(key) or [], names_in, f"Use one of these names after {option}.")
    versions = options.get("load_versions") or {}
    require_in("dataset", versions, _datasets, "Use one of these names: --load-versions NAME:VERSION.")
    require_in("tag", options.get("tags") or [], _tags, "Use one of these names, or leave --tags out.")
    spaces = options.get("namespaces") or []
    require_in("namespace", spaces, _namespaces, "Use one of these, or leave --namespaces out.")


def _require_in(
    chosen: Pipeline,
    kind: str,
    names: Iterable[str],
    names_in: Callable[[Pipeline], set[str]],
    remedy: str,
    *,
    compares: bool,
) -> None:
    known = names_in(chosen)
    for name in names:
        homes = [home for home in pipelines if home != _DEFAULT and name in names_in(pipelines[home])]
        if name not in known and compares and homes and name not in names_in(pipelines[_COMPARISON]):
            raise ParameterError(
                f"There is no {kind} named {name!r} in a comparison, and benchmark.models is set.",
                "Expected what a comparison has: it replaces training, and evaluates, tunes and packages nothing.",
                "Remove the models: --params benchmark.models=[].",
            )
        if name not in known and homes:
            home = min(homes, key=lambda home: len(pipelines[home].nodes))
            raise ParameterError(
                f"There is no {kind} named {name!r} in the pipelines of this run.",
                f"The registered pipeline {home} has it.",
                f"Use --pipelines {home} with this option.",
            )
        require_known(kind, [name], sorted(known), remedy)


def _full_names(pipeline: Pipeline) -> set[str]:
    return {node.name for node in pipeline.nodes}


def _node_names(pipeline: Pipeline) -> set[str]:
    # A pipeline of plain Kedro knows the full names only.
    full = _full_names(pipeline)
    return {*map(bare_name, full)} if isinstance(pipeline, StagedPipeline) else full


def _datasets(pipeline: Pipeline) -> set[str]:
    return pipeline.datasets()


def _outputs(pipeline: Pipeline) -> set[str]:
    return pipeline.all_outputs()


def _tags(pipeline: Pipeline) -> set[str]:
    return {tag for node in pipeline.nodes for tag in node.tags}


def _namespaces(pipeline: Pipeline) -> set[str]:
    return {prefix for node in pipeline.nodes for prefix in _prefixes(node.namespace)}


def _prefixes(namespace: str | None) -> list[str]:
    parts = namespace.split(".") if namespace else []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _selected(options: Mapping[str, Any], chosen: Pipeline) -> Pipeline:
    """Return the nodes that all options together select."""
    filters = {key: options.get(key) for key in ("tags", *_NODE_OPTIONS, *_DATASET_OPTIONS)}
    try:
        return chosen.filter(**filters, node_namespaces=options.get("namespaces"))
    except ValueError as err:
        for key, option in _OPTION_NAMES.items():
            names = list(options.get(key) or [])
            if len(names) > len({*names}):
                raise ParameterError(
                    f"{option} {','.join(names)} has a name twice.",
                    "Expected each name once.",
                    f"Use {option} {','.join(dict.fromkeys(names))}.",
                ) from err
        given = [f"{_OPTION_NAMES[key]} {','.join(options[key])}" for key in _OPTION_NAMES if options.get(key)]
        raise ParameterError(
            f"No node is in {' and in '.join(given)}.",
            "Expected options that select at least one node together.",
            "Leave one of them out.",
        ) from err


def _refuse_async(selected: Pipeline) -> None:
    """Refuse nodes that yield events while they run: Kedro would do so when it comes to them."""
    names = [node.name for node in selected.nodes if inspect.isgeneratorfunction(node.func)]
    bare = [bare_name(name) for name in names]
    picked = [short if bare.count(short) == 1 else name for name, short in zip(names, bare, strict=True)]
    if picked:
        raise ParameterError(
            f"--async cannot run {short_list(picked)}.",
            "Kedro does not load and save asynchronously for nodes that yield events, as training does.",
            "Leave --async out, or choose other nodes with --nodes.",
        )


def make_runner(options: Mapping[str, Any]) -> AbstractRunner:
    """Return the runner that the options of ``kedro run`` ask for.

    Raises:
        ParameterError: If there is none of that name, or it does not take these arguments.
    """
    name = options.get("runner") or _DEFAULT_RUNNER
    make = _find_runner(name)
    given = dict(options.get("runner_params") or {})
    known = [key for key in inspect.signature(make).parameters if key not in ("args", "kwargs")]
    require_known(f"parameter of {name}", given, known, "Use one of these names in --runner-params.")
    try:
        return make(**given | ({"is_async": True} if options.get("is_async") else {}))
    except (TypeError, ValueError) as err:
        raise ParameterError(
            f"--runner-params cannot make a {name}: {err}",
            f"Its parameters are {short_list(known)}.",
            "Correct them, for example --runner-params max_workers=2.",
        ) from err


def _find_runner(name: str) -> Callable[..., AbstractRunner]:
    import kedro.runner

    known = [key for key in kedro.runner.__all__ if key.endswith("Runner") and key != "AbstractRunner"]
    try:
        found = load_obj(name, "kedro.runner")
    except (AttributeError, ImportError, ValueError) as err:
        raise ParameterError(
            f"There is no runner named {name!r}.{suggestion(name, known)}",
            f"Known: {', '.join(known)}, or the dotted path of a class: my_package.MyRunner.",
            f"Use --runner {_DEFAULT_RUNNER}, or leave --runner out.",
        ) from err
    if not (inspect.isclass(found) and issubclass(found, AbstractRunner)) or inspect.isabstract(found):
        raise ParameterError(
            f"--runner is {name}, which is no runner.",
            f"Known: {', '.join(known)}, or the dotted path of a class: my_package.MyRunner.",
            f"Use --runner {_DEFAULT_RUNNER}, or leave --runner out.",
        )
    return found
