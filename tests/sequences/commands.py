"""Commands of the project, each in a process of its own that is forked from this one: imports are paid for once."""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from tests.integration import command_server
from tests.integration.foundry import PROJECT
from tests.loopback.mini_hub import MiniHub
from tests.sequences.claims import Claims, check_everything, check_run_list

TINY: dict[str, Any] = {
    "validation": {"tier": 1},
    "training": {
        "max_steps": 4, "per_device_train_batch_size": 4, "eval_steps": 2, "save_steps": 2, "logging_steps": 1,
        "num_samples": 1, "sample_tokens": 4, "save_total_limit": 9,
    },
    "tuning": {"n_trials": 2, "max_steps": 2, "confirm_seeds": 1, "confirm_steps": 2},
    "tracking": {"mode": "disabled"},
    "deployment": {"formats": ["pytorch"], "page": False},
}  # fmt: skip
"""Parameters with which a command takes about a second."""

_LIBRARIES = (
    "datasets",
    "huggingface_hub",
    "jinja2",
    "kedro",
    "kedro_datasets",
    "matplotlib",
    "pandas",
    "plotly",
    "optuna",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


class Project:
    """A workspace with a model, a text and a data folder, on which commands are run.

    Args:
        folder: The workspace: ``model/``, ``text.txt`` and ``data/``.
        hub: The Hub that it publishes to.
    """

    def __init__(self, folder: Path, hub: MiniHub | None = None) -> None:
        self.folder, self.hub = folder, hub
        self.data_dir = folder / "data"
        self.claims = Claims()
        self.outcomes: list[str] = []
        self._defaults: dict[str, Any] = copy.deepcopy(TINY) | {
            "data_dir": str(self.data_dir),
            "model": {"source": str(folder / "tiny")},
            "data": {"source": str(folder / "text.txt")},
        }

    def run(
        self, pipeline: str, changes: Mapping[str, Any] | None = None, kill: Callable[[], None] | None = None
    ) -> str:
        """Run a pipeline; return ``ended``, ``refused``, ``failed`` or ``killed``, and check what there is then.

        Args:
            pipeline: Its name.
            changes: Parameters by dotted name.
            kill: Called in the process of the command before it starts: arranges that it is killed.
        """
        parameters = copy.deepcopy(self._defaults)
        for name, value in (changes or {}).items():
            section, _, key = name.partition(".")
            parameters.setdefault(section, {})[key] = value
        return self.run_parameters(pipeline, parameters, kill, what=f"{pipeline} {dict(changes or {})}")

    def run_parameters(
        self,
        pipeline: str,
        parameters: dict[str, Any],
        kill: Callable[[], None] | None = None,
        *,
        what: str = "a printed command",
    ) -> str:
        """Run a pipeline with these parameters only, by section."""
        outcome = _in_process(lambda: _run_session(pipelines_of(pipeline), parameters, kill), self.folder / "log.txt")
        return self._after(what, outcome)

    def plan(self, pipeline: str, changes: Mapping[str, Any] | None = None) -> str:
        """Run ``kedro plan``; return ``ended``, ``refused`` or ``failed``."""
        command = ["plan", "--pipelines", pipeline, "--params", self.parameters(changes or {})]
        return _in_process(lambda: _run_plan(command), self.folder / "log.txt")

    @property
    def log(self) -> str:
        """What the last command has printed."""
        return (self.folder / "log.txt").read_text()

    @property
    def runs(self) -> set[str]:
        """Names of the runs that have a folder."""
        return {path.name for path in (self.data_dir / "06_models").glob("*/")}

    def kedro(self, *arguments: str) -> str:
        """Run a command of kedro as a user does, with the Hub."""
        environment = os.environ | (self.hub.env("hf_test", home=self.folder / "home") if self.hub else {})
        command = [sys.executable, "-m", "kedro", *arguments]
        result = command_server.run(command, PROJECT, environment)
        (self.folder / "log.txt").write_text(result.stdout + result.stderr)
        return self._after(" ".join(arguments), "ended" if result.returncode == 0 else "refused")

    def parameters(self, changes: Mapping[str, Any]) -> str:
        """Return ``--params`` with the parameters of the workspace."""
        flat = {"data_dir": self._defaults["data_dir"]}
        for section, values in self._defaults.items():
            flat |= {f"{section}.{name}": value for name, value in values.items()} if isinstance(values, dict) else {}
        texts = {
            name: json.dumps(value) if isinstance(value, bool | list) else value
            for name, value in (flat | dict(changes)).items()
        }
        return ",".join(f"{name}={value}" for name, value in texts.items())

    def releases(self) -> dict[str, dict[str, dict[str, bytes]]]:
        """Repository -> release -> file -> content, as the Hub has them."""
        if self.hub is None:
            return {}
        found: dict[str, dict[str, dict[str, bytes]]] = {}
        for (kind, name), repo in self.hub.store.repos.items():
            if kind == "models":
                tags = {tag: repo.resolve(tag) for tag in repo.tags}
                found[name] = {
                    tag: {path: file.data for path, file in at.files.items()} for tag, at in tags.items() if at
                }
        return found

    def _after(self, what: str, outcome: str) -> str:
        self.outcomes.append(f"{what}: {outcome}")
        found = check_everything(self.data_dir, self.releases())
        check_run_list(found, self.data_dir, _run_list(self.data_dir))
        self.claims.n_checked += found.n_checked
        self.claims.false += [f"after {what} ({outcome}): {text}" for text in found.false]
        return outcome


def pipelines_of(name: str) -> list[str]:
    """Return the pipelines that a name stands for."""
    try:
        import transformer_foundry.pipelines.stages  # noqa: F401
    except ImportError:  # before pipelines contained what they need
        upstream = ["validation", "data_engineering"]
        chains = {"__default__": [], "training": [*upstream, "training"], "tuning": [*upstream, "tuning"],
                  "comparison": [*upstream, "comparison"]}  # fmt: skip
        return chains.get(name, [name])
    return [name]


def kill_before(node: str) -> Callable[[], None]:
    """Return what arranges that the command is killed before it runs a node."""

    def arrange() -> None:
        from kedro.pipeline.node import Node

        run = Node.run

        def killed(self: Node, *args: Any, **kwargs: Any) -> Any:
            if self.name.rpartition(".")[2] == node:
                os.kill(os.getpid(), signal.SIGKILL)
            return run(self, *args, **kwargs)

        Node.run = killed  # type: ignore[method-assign]

    return arrange


def kill_at_step(step: int) -> Callable[[], None]:
    """Return what arranges that the command is killed after it has logged a step of training."""

    def arrange() -> None:
        from transformer_foundry.core.files import json_lines

        append = json_lines.append_row

        def killed(path: Path, row: Mapping[str, Any]) -> None:
            append(path, row)
            if row.get("step") == step:
                os.kill(os.getpid(), signal.SIGKILL)

        json_lines.append_row = killed

    return arrange


def import_what_was_imported(workspace: Path) -> None:
    """Import what the last command in a workspace has imported: half of a command's time, which forks then save."""
    for name in (workspace / "log.modules").read_text().splitlines():
        if name.partition(".")[0] in ("transformer_foundry", *_LIBRARIES):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def copy_workspace(source: Path, target: Path) -> Path:
    """Copy a workspace; what was hard-linked stays so."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("log.txt", "home"))
    return target


def _run_session(pipelines: list[str], parameters: dict[str, Any], kill: Callable[[], None] | None) -> None:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    os.chdir(PROJECT)
    bootstrap_project(PROJECT)
    if kill is not None:
        kill()
    with KedroSession.create(project_path=PROJECT, runtime_params=parameters) as session:
        session.run(pipeline_names=pipelines or None)


def _run_plan(command: list[str]) -> None:
    from kedro.framework.startup import bootstrap_project

    from transformer_foundry.cli import cli

    os.chdir(PROJECT)
    bootstrap_project(PROJECT)
    cli.main(command, prog_name="kedro", standalone_mode=True)


def _in_process(work: Callable[[], None], log: Path) -> str:
    from transformer_foundry.console.expected_errors import expected_error

    child = os.fork()
    if child == 0:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            _print_to(os.fdopen(1, "w", buffering=1, closefd=False))
            code = 0
            try:
                work()
            except SystemExit as end:  # of a command of click
                code = int(end.code or 0)
            except BaseException as error:
                traceback.print_exc()
                code = 2 if isinstance(error, Exception) and expected_error(error) else 1
            log.with_suffix(".modules").write_text("\n".join(sys.modules))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "killed"
    return {0: "ended", 2: "refused"}.get(os.WEXITSTATUS(status), "failed")


def _print_to(stream: TextIO) -> None:
    """Let this process print and log to ``stream``: those of pytest are files of its own."""
    sys.stdout = sys.stderr = stream
    for name in ("", *logging.root.manager.loggerDict):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(stream)


def _run_list(data_dir: Path) -> str:
    from click.testing import CliRunner

    from transformer_foundry.cli.runs import runs

    return CliRunner().invoke(runs, ["list", "--data-dir", str(data_dir)]).output
