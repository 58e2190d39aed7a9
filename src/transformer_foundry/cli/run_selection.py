"""Check the options of ``kedro run`` against what is registered, before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner
from kedro.utils import load_obj

from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.hooks.preflight.processes import require_alone
from transformer_foundry.pipelines.stages import StagedPipeline, bare_name

__all__ = ["check_selection", "make_runner", "require_known"]

_DEFAULT = "__default__"
_DEFAULT_RUNNER = "SequentialRunner"
_REPLACEMENT = "comparison"
"""Pipeline that may replace training in the context, after these checks: its names are known too."""

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
    chosen = sum((pipelines[name] for name in [*(requested or [_DEFAULT])]), Pipeline([]))
    if _REPLACEMENT in pipelines and ("training" in requested or not requested):
        chosen += pipelines[_REPLACEMENT]
    _check_names(options, chosen)
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


def _check_names(options: Mapping[str, Any], chosen: Pipeline) -> None:
    full_names = {node.name for node in chosen.nodes}
    # A pipeline of plain Kedro knows the full names only.
    bare_names = sorted({*map(bare_name, full_names)}) if isinstance(chosen, StagedPipeline) else sorted(full_names)
    for key, option in _NODE_OPTIONS.items():
        for name in options.get(key) or []:
            known = sorted(full_names) if "." in name else bare_names
            require_known("node", [name], known, f"Use one of these names after {option}.")
    datasets = sorted(chosen.datasets())
    for key, option in _DATASET_OPTIONS.items():
        found = sorted(chosen.all_outputs()) if key == "to_outputs" else datasets
        require_known("dataset", options.get(key) or [], found, f"Use one of these names after {option}.")
    versions = options.get("load_versions") or {}
    require_known("dataset", versions, datasets, "Use one of these names: --load-versions NAME:VERSION.")
    tags = sorted({tag for node in chosen.nodes for tag in node.tags})
    require_known("tag", options.get("tags") or [], tags, "Use one of these names, or leave --tags out.")
    spaces = sorted({prefix for node in chosen.nodes for prefix in _prefixes(node.namespace)})
    require_known("namespace", options.get("namespaces") or [], spaces, "Use one of these, or leave --namespaces out.")


def _prefixes(namespace: str | None) -> list[str]:
    parts = namespace.split(".") if namespace else []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _selected(options: Mapping[str, Any], chosen: Pipeline) -> Pipeline:
    """Return the nodes that all options together select."""
    filters = {key: options.get(key) for key in ("tags", *_NODE_OPTIONS, *_DATASET_OPTIONS)}
    try:
        return chosen.filter(**filters, node_namespaces=options.get("namespaces"))
    except ValueError as err:
        given = [f"{_OPTION_NAMES[key]} {','.join(options[key])}" for key in _OPTION_NAMES if options.get(key)]
        raise ParameterError(
            f"No node is in {' and in '.join(given)}.",
            "Expected options that select at least one node together.",
            "Leave one of them out.",
        ) from err


def _refuse_async(selected: Pipeline) -> None:
    """Refuse nodes that yield events while they run: Kedro would do so when it comes to them."""
    picked = [bare_name(node.name) for node in selected.nodes if inspect.isgeneratorfunction(node.func)]
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
