"""One W&B run: opened online or else offline, and logged row by row without gaps or duplicates."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import netrc
import os
import shlex
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from transformer_foundry.config.hook_options import TrackingOptions
from transformer_foundry.console.sigterm import shutdown_timeout_s
from transformer_foundry.core.base.errors import error_message
from transformer_foundry.core.base.secrets import redact, without_secrets
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.files.atomic import replace_file
from transformer_foundry.core.files.json_lines import read_rows
from transformer_foundry.core.files.run_paths import METRICS_FILE, SAMPLES_FILE, TRACKING_FILE
from transformer_foundry.hooks.tracking.wandb_offline_log import folders_to_sync, last_logged_step

if TYPE_CHECKING:
    from transformer_foundry.core.studies.tuning import TrialResult

__all__ = ["WandbRun", "choose_mode", "flatten_numbers"]

_log = logging.getLogger(__name__)

STEP_METRIC = "train/step"
INIT_TIMEOUT_S = 15
FINISH_TIMEOUT_S = 60.0
"""Longest wait for W&B to take the rest at the end of a run."""

_MOST_FOLDERS = 4
"""Folders of offline sessions that a line names; of more, their pattern if it fits nothing else."""

_DEFAULT_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""Where wandb goes by default: before and since version 0.31."""


class WandbRun:
    """Logs the files of a run's folder and the results of pipelines to W&B.

    The rows of ``metrics.jsonl`` are logged up to a step that a checkpoint has made durable, each once: the last logged
    step is read from W&B itself, which loses rows that it was given when the process is killed.

    Args:
        options: Project, mode, tags.
        run_name: Name of the run.
        run_folder: Folder of the run, which keeps the id of its W&B run.
        folder: Where wandb keeps its own files.
        config: Parameters to show with the run; secrets are left out.
    """

    def __init__(
        self, options: TrackingOptions, *, run_name: str, run_folder: Path, folder: Path, config: Mapping[str, Any]
    ) -> None:
        self._options, self._run_name, self._run_folder, self._folder = options, run_name, run_folder, folder
        self._config = without_secrets(config)
        self._mode = choose_mode(options.mode)
        self._run: Any = None
        self._logged_step = -1
        self._asked_step = -1
        self._is_resumed = False
        self._refused: dict[str, str] = {}
        self._trials: list[Path] = []

    @property
    def run(self) -> Any:
        """The run of wandb, opened at the first use."""
        self._open_once()
        return self._run

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier command has logged to this W&B run."""
        self._open_once()
        return self._is_resumed

    def leave_earlier_training(self) -> None:
        """Start a new W&B run if that of the folder has rows: they are of a training that was deleted."""
        if self._read_state().get("logged_step", -1) >= 0:
            self.finish()
            (self._run_folder / TRACKING_FILE).unlink()

    def log_rows_until(self, step: int) -> None:
        """Log the rows of ``metrics.jsonl`` that are not logged yet, up to ``step``, then the samples of their steps.

        If there are none, no W&B run is opened. If an online run takes no more rows, an offline one goes on with them.
        """
        if self._run is None and self._has_logged(step):
            return
        self._open_once()
        if step == self._asked_step:
            return
        self._asked_step = step
        first = self._logged_step
        for row in read_rows(self._run_folder / METRICS_FILE):
            if self._logged_step < row["step"] <= step:
                self._log_row({STEP_METRIC: row["step"], **{name: row[name] for name in row if name != "step"}})
                self._logged_step = row["step"]
        self._write_state()
        for row in read_rows(self._run_folder / SAMPLES_FILE):
            if first < row["step"] <= step:
                self._attempt("samples", functools.partial(self._log_samples, row["step"], row["samples"]))

    def log(self, name: str, make: Callable[[], Any]) -> None:
        """Log one figure or table, which ``make`` returns as W&B shows it."""
        run = self.run
        self._attempt(name, lambda: run.log({name: make()}))

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows with the same keys as a table."""
        if rows:
            columns = list(rows[0])
            self.log(name, lambda: _table(columns, [[row.get(column) for column in columns] for row in rows]))

    def summarize(self, prefix: str, values: Mapping[str, Any]) -> None:
        """Show the numbers of a nested mapping, and the texts of its first level, in the summary of the run."""
        texts = {f"{prefix}/{name}": value for name, value in values.items() if isinstance(value, str)}
        summary = self.run.summary
        self._attempt(
            f"{prefix} (summary)", lambda: summary.update(without_secrets(texts) | flatten_numbers(values, prefix))
        )

    def update_config(self, values: Mapping[str, Any]) -> None:
        """Add to the parameters that are shown with the run."""
        config = self.run.config
        names = ", ".join(values)
        self._attempt(f"{names} (config)", lambda: config.update(without_secrets(values), allow_val_change=True))

    def log_folder(self, name: str, kind: str, folder: Path) -> None:
        """Upload a folder as an artifact."""
        import wandb

        run = self.run

        def upload() -> None:
            artifact = wandb.Artifact(name, type=kind)
            # Immutable: wandb would first copy everything to its own folder in the user's home.
            artifact.add_dir(str(folder), policy="immutable")
            run.log_artifact(artifact)

        self._attempt(name, upload)

    def alert(self, text: str) -> None:
        """Send an alert about a failure, if a run is open."""
        if self._run is not None:
            self._run.alert(title=f"{self._run_name} failed", text=redact(text))

    def log_trial(self, record: TrialResult) -> None:
        """Log a trial of a search as a separate run, in one group with the others."""
        self._attempt(f"trial {record.number}", lambda: self._log_trial(record))

    def _log_trial(self, record: TrialResult) -> None:
        trial = self._start_run(
            _new_id(),
            name=f"{self._run_name}-trial-{record.number}",
            group=f"{self._run_name}-tuning",
            job_type="trial",
            config=without_secrets(record.parameters),
        )
        trial.define_metric("*", step_metric=STEP_METRIC)
        for step, loss in record.curve:
            trial.log({STEP_METRIC: step, "eval/loss": loss})
        trial.summary.update({"trial": record.number, "state": record.state, "seconds": record.seconds})
        if record.loss is not None:
            trial.summary["loss"] = record.loss
        if record.error is not None:
            trial.summary["error"] = redact(record.error)
        self._trials += [Path(trial.dir).parent] if self._mode == "offline" else []
        _finish(trial, exit_code=1 if record.state == "failed" else 0)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run; what is not uploaded within a minute stays in wandb's folder."""
        run, self._run = self._run, None
        self._asked_step = self._logged_step = -1
        self._say_refused()
        if run is None:
            return
        run_files, run_id = Path(run.dir).parent, run.id
        is_complete = _finish(run, exit_code)
        if self._mode == "offline":
            folders = [*self._trials, *(folders_to_sync(self._folder, run_id) or [run_files])]
            _log.info("W&B: recorded offline; upload with: wandb sync %s", _sync_arguments(folders))
        elif not is_complete:
            _log.warning("W&B: the upload is not complete; resume it with: wandb sync %s", run_files)

    def _attempt(self, what: str, log: Callable[[], object]) -> None:
        """Log one thing; if W&B does not take it, say so once and leave it out for the rest of this command."""
        if what in self._refused:
            return
        try:
            log()
        except Exception as err:  # wandb raises many types; none is a reason to log nothing else
            self._refused[what] = error_message(err, 120)

    def _say_refused(self) -> None:
        refused, self._refused = self._refused, {}
        if refused:
            data_dir = self._run_folder.parent.parent
            command = ["kedro", "tracking", "replay", self._run_name, "--data-dir", str(data_dir)]
            _log.warning(
                "W&B has not taken %s (%s). All of it is in %s and %s; to log metrics and samples again: %s",
                short_list(refused, 4),
                next(iter(refused.values())),
                self._run_folder,
                self._folder,
                shlex.join(command),
            )

    def _log_row(self, row: Mapping[str, Any]) -> None:
        try:
            self._run.log(row)
        except Exception as err:  # as above; an offline run that takes nothing is reported by the caller
            if self._mode == "offline":
                raise
            _log.warning("W&B takes no more metrics (%s): recording offline.", _first_line(err))
            _finish(self._run, 1)
            self._mode = "offline"
            self._open()
            self._run.log(row)

    def _log_samples(self, step: int, texts: Sequence[Any]) -> None:
        self._run.log({STEP_METRIC: step, "samples": _table(["sample"], [[text] for text in texts])})

    def _has_logged(self, step: int) -> bool:
        """Return whether all rows up to ``step`` are in the W&B run, which is not open."""
        state, rows = self._read_state(), read_rows(self._run_folder / METRICS_FILE)
        last = max((row["step"] for row in rows if row["step"] <= step), default=-1)
        if last < 0 or "run_id" not in state or state.get("logged_step", -1) < last:
            return last < 0
        # What was given to wandb is lost if the process was killed; offline, its files show that.
        return self._mode == "online" or last_logged_step(self._folder, state["run_id"], STEP_METRIC) >= last

    def _open_once(self) -> None:
        if self._run is None:
            self._open()

    def _open(self) -> None:
        state = self._read_state()
        self._is_resumed = "run_id" in state
        run_id = state.get("run_id") or _new_id()
        self._run = self._start_run(run_id, name=self._run_name, job_type="training", config=self._config)
        self._run.define_metric("*", step_metric=STEP_METRIC)
        reached = last_logged_step(self._folder, run_id, STEP_METRIC)
        if self._mode == "offline" and (count := last_logged_step(self._folder, run_id, "_step")) >= 0:
            # Offline, wandb counts the rows of each session from 0; uploaded, they are rows of one run.
            self._run.log({}, step=count + 1)
        if self._mode == "online":
            reached = max(reached, int(self._run.summary.get(STEP_METRIC, -1)))
            _log.info("W&B: %s", self._run.url)
        self._logged_step = max(reached, self._logged_step)
        self._write_state()

    def _start_run(self, run_id: str, **arguments: Any) -> Any:
        """Start a W&B run: online, or offline from now on if that does not work within seconds."""
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        arguments |= {
            "id": run_id,
            "project": self._options.project,
            "entity": self._options.entity,
            "tags": self._options.tags or None,
            "dir": str(self._folder),
            # A notebook may have another run open: this one neither joins it nor ends it.
            "reinit": "create_new",
        }
        if self._mode == "online":
            try:
                with _redacted_command():
                    return wandb.init(**arguments, resume="allow", settings=_settings("online"))
            except Exception as err:  # wandb raises many types, also of other libraries; all mean: not online now
                _log.warning("W&B cannot be reached (%s): recording offline.", _first_line(err))
                self._mode = "offline"
                if wandb.run is None:
                    # wandb's service still has the id of the run that it could not start.
                    wandb.teardown()
                else:
                    arguments["id"] = _new_id()
        with _redacted_command():
            return wandb.init(**arguments, settings=_settings("offline"))

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads((self._run_folder / TRACKING_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return state if isinstance(state, dict) else {}

    def _write_state(self) -> None:
        self._run_folder.mkdir(parents=True, exist_ok=True)
        # The card of a package links to the address; offline there is none.
        address = {"url": self._run.url} if self._run.url else {}
        state = {"run_id": self._run.id, "logged_step": self._logged_step} | address
        replace_file(self._run_folder / TRACKING_FILE, json.dumps(state) + "\n")


def choose_mode(mode: str) -> str:
    """Return "online", "offline" or "disabled" for ``tracking.mode``, so that wandb never asks for a key."""
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "online").lower()
    if mode in ("disabled", "offline", "dryrun"):
        return "offline" if mode == "dryrun" else mode
    return "online" if _has_key() else "offline"


def flatten_numbers(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return the numbers of a nested mapping under names like ``prefix/outer/inner``.

    Example:
        >>> flatten_numbers({"test": {"loss": 2.0, "task": "causal_lm"}, "step": 400}, "evaluation")
        {'evaluation/test/loss': 2.0, 'evaluation/step': 400}
    """
    return dict(_numbers(values, prefix))


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", value


@contextlib.contextmanager
def _redacted_command() -> Iterator[None]:
    """Hide the secrets of the command line, which wandb records with the run."""
    before = sys.argv
    sys.argv = [redact(argument) for argument in before]
    try:
        yield
    finally:
        sys.argv = before


def _settings(mode: str) -> Any:
    import wandb

    return wandb.Settings(mode=mode, silent=True, console="off", init_timeout=INIT_TIMEOUT_S)


def _sync_arguments(folders: Sequence[Path]) -> str:
    """Return the folders of offline sessions as arguments of ``wandb sync``, which skips those that are uploaded."""
    parent = folders[0].parent
    if len(folders) > _MOST_FOLDERS and set(folders) == set(parent.glob("offline-run-*")):
        return f"{shlex.quote(str(parent))}/offline-run-*"
    return shlex.join(map(str, folders))


def _table(columns: list[str], data: list[list[Any]]) -> Any:
    import wandb

    return wandb.Table(columns=columns, data=data)


def _finish(run: Any, exit_code: int) -> bool:
    """Close ``run`` and return whether that was done in time; without a network wandb would wait for one."""
    done = threading.Event()

    def finish() -> None:
        # After the timeout, the end of the process makes wandb raise here, where nothing handles it.
        with contextlib.suppress(Exception):
            run.finish(exit_code=exit_code)
            done.set()

    thread = threading.Thread(target=finish, name="wandb-finish", daemon=True)
    thread.start()
    thread.join(shutdown_timeout_s(FINISH_TIMEOUT_S))
    return done.is_set()


def _new_id() -> str:
    return uuid.uuid4().hex[:12]


def _has_key() -> bool:
    # In a terminal wandb would ask for a key, and training would wait for the answer.
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    base_url = os.environ.get("WANDB_BASE_URL")
    hosts = [urlparse(base_url).netloc] if base_url else _DEFAULT_HOSTS
    files = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for name in files:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            machines = netrc.netrc(os.path.expanduser(name))
            if any(machines.authenticators(host) for host in hosts):
                return True
    return False


def _first_line(err: Exception) -> str:
    return error_message(err, first_line=True)
