"""Commands of the project: ``kedro run`` and the groups, which print expected errors without a traceback."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import kedro
from kedro.framework.cli.catalog import catalog
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.registry import registry

from transformer_foundry.cli.checkpoints import checkpoints
from transformer_foundry.cli.doctor import doctor
from transformer_foundry.cli.example import example
from transformer_foundry.cli.hub import hub
from transformer_foundry.cli.models import models
from transformer_foundry.cli.plan import make_plan_command
from transformer_foundry.cli.readable import make_readable
from transformer_foundry.cli.run_selection import check_selection, require_known
from transformer_foundry.cli.runs import runs
from transformer_foundry.cli.tracking import tracking
from transformer_foundry.console.params_text import merge_params, parse_params
from transformer_foundry.console.third_party import silence_third_parties
from transformer_foundry.core.base.errors import ParameterError, error_message
from transformer_foundry.hooks.kedro_hooks import report_interrupted

__all__ = ["cli", "run"]

_HELP = {
    "pipelines": "Registered pipelines to run, separated by commas. By default all stages except tuning and comparison "
    "run.",
    "pipeline": "Deprecated: use --pipelines.",
    "env": "Environment of the configuration, a folder of conf/; the default is local. Presets are a parameter: "
    "--params preset=standard.",
    "params": "Parameters as SECTION.NAME=VALUE, separated by commas; the documentation lists them "
    "(reference/parameters). preset=standard and preset=thorough train longer. Put parameters for every run into "
    "conf/local/parameters.yml.",
}
"""Help of ``kedro run`` options with a special meaning in this project; the others keep Kedro's."""

_EXAMPLES = """\b
Examples:
  kedro run
  kedro run --params model.source=my_export,data.source=reviews.csv
  kedro run --pipelines training --params training.max_steps=2000
  kedro run --params preset=standard
"""

silence_third_parties()

if sys.argv[0] == "python -m kedro":
    # Kedro has put this in place of the path, from which click makes "python -m kedro.python -m kedro".
    sys.argv[0] = str(Path(kedro.__file__).with_name("__main__.py"))


@click.group(name="transformer-foundry")
def cli() -> None:
    """Transformer Foundry: start with kedro doctor, then kedro run."""


class _RunCommand(click.Command):
    """``kedro run`` whose help lists the registered pipelines, which are loaded only for it."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from kedro.framework.project import pipelines

        names = sorted(name for name in pipelines if name != "__default__")
        option = next(item for item in self.params if item.name == "pipelines")
        assert isinstance(option, click.Option)
        option.help = f"{_HELP['pipelines']} Registered: {', '.join(names)}."
        super().format_help(ctx, formatter)


def _run(**options: Any) -> Any:
    check_selection(options)
    assert kedro_run.callback is not None
    try:
        return kedro_run.callback(**options)
    except KeyboardInterrupt:
        report_interrupted()
        raise


def _read_params(_context: click.Context, _option: click.Parameter, values: tuple[Any, ...]) -> dict[str, Any]:
    """Return the parameters of all ``--params``, or of a ``--config`` file."""
    merged: dict[str, Any] = {}
    for value in values:
        merged = merge_params(merged, value if isinstance(value, Mapping) else parse_params(value))
    return merged


def _read_config(context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Take the options in a ``--config`` file as defaults, as Kedro does."""
    if value is None:
        return None
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        loaded = OmegaConf.to_container(OmegaConf.load(Path(value)))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as err:
        raise ParameterError(
            f"--config {value} cannot be read: {error_message(err, 200)}",
            "Expected a YAML file with the options under the key run.",
            "Correct the file, or leave --config out.",
        ) from err
    section = loaded.get("run") if isinstance(loaded, Mapping) else None
    if not isinstance(section, Mapping):
        raise ParameterError(
            f"--config {value} has no section run.",
            "Expected a YAML file with the options under the key run.",
            "Write 'run:' followed by indented options, for example 'pipelines: training'.",
        )
    known = [str(item.name) for item in run.params if item.name != "config"]
    require_known("option", map(str, section), known, f"Correct it in {value}.")
    context.default_map = dict(context.default_map or {}) | {str(key): _as_text(item) for key, item in section.items()}
    return value


def _as_text(value: Any) -> Any:
    """Return an option of a file in the form of the command line: lists are separated by commas."""
    if isinstance(value, Mapping):
        return (value,)  # --params may be given several times
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _make_run() -> click.Command:
    parameters = [copy.copy(parameter) for parameter in kedro_run.params]
    for parameter in parameters:
        if isinstance(parameter, click.Option):
            parameter.help = _HELP.get(parameter.name or "", parameter.help)
        if parameter.name == "params":
            parameter.callback, parameter.multiple, parameter.default = _read_params, True, ()
        elif parameter.name == "config":
            parameter.callback = _read_config
    return _RunCommand(
        "run",
        params=parameters,
        callback=_run,
        help="Run pipelines: what they need and lack runs first.",
        short_help="Run the pipelines.",
        epilog=_EXAMPLES,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _require_pipelines(_context: click.Context, _parameter: click.Parameter, value: Any) -> list[str]:
    from kedro.framework.project import pipelines

    names = [name.strip() for name in str(value or "").split(",") if name.strip()]
    require_known("pipeline", names, sorted(pipelines), "'kedro registry list' shows them.")
    return names


def _checked(group: click.Group) -> click.Group:
    """Return commands of Kedro that refuse a pipeline that is not there: theirs print a traceback, or nothing."""
    group = copy.deepcopy(group)
    for parameter in (item for command in group.commands.values() for item in command.params):
        if parameter.name == "pipeline":
            parameter.callback = _require_pipelines
        elif parameter.name == "name":  # it takes one
            parameter.callback = lambda *given: _require_pipelines(*given)[0]
    return group


run = _make_run()
kedros = (_checked(catalog), _checked(registry))
for command in (run, make_plan_command(run.params), doctor, example, checkpoints, hub, models, runs, tracking, *kedros):
    make_readable(command)
    cli.add_command(command)
