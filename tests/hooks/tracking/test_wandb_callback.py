import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.core.training.tiny import make_splits
from tests.hooks.runs import Run
from tests.loopback.wandb_offline_reader import read_runs
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.base.secrets import without_secrets
from transformer_foundry.core.publishing import Package
from transformer_foundry.core.studies.tuning import TrialResult
from transformer_foundry.datasets import PackageDataset, StudyDataset
from transformer_foundry.hooks.tracking.wandb_callback import WandbCallback
from transformer_foundry.hooks.tracking.wandb_run import WandbRun, choose_mode

ROOT = Path(__file__).parents[3]
PROFILE = {"texts": {}, "splits": {}, "baselines": {}, "findings": []}
REPORT = {"status": "fail", "kind": "decoder-only", "seconds": 1.5, "findings": [{"check": "mask", "message": "leaks"}]}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "data", WandbCallback(), sections={"tracking": {"tags": ["quick"]}})


def logged(run, killed=0):
    """The sessions of a run; wandb closes the file of one a moment after ``finish`` has returned."""
    deadline = time.monotonic() + 10
    while True:
        sessions = read_runs(run.data_dir / "08_reporting" / run.name)
        if [session.exit_code for session in sessions].count(None) == killed or time.monotonic() > deadline:
            return sessions


def metric_steps(run, killed=0):
    rows = [row for session in logged(run, killed) for row in session.history if "train/loss" in row]
    return [row["train/step"] for row in rows]


def train(run, start, *steps, checkpoints=()):
    run.begin()
    run.start(start)
    for step in steps:
        run.progress(step)
        if step in checkpoints:
            run.checkpoint(step)


def test_metrics_are_logged_against_the_step(run):
    train(run, 0, 10, 20, checkpoints=(20,))
    run.end()
    (session,) = logged(run)
    rows = [(row["train/step"], row["train/loss"]) for row in session.history]
    assert rows == [(10, 3.9), (20, 3.8)]
    assert ("*", "train/step") in session.metrics


def test_the_run_is_named_grouped_and_closed(run):
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    (session,) = logged(run)
    assert (session.name, session.project, session.tags) == ("gpt", "transformer-foundry", ["quick"])
    assert session.exit_code == 0


def test_nothing_that_could_be_rolled_back_is_logged(run):
    train(run, 0, 10, 20, 30, checkpoints=(20,))
    run.end()
    assert metric_steps(run) == [10, 20]


def test_a_run_in_two_sessions_logs_each_row_once(run):
    train(run, 0, 10, 20, 30, checkpoints=(20,))
    run.fail()
    train(run, 20, 30, 40, checkpoints=(40,))
    run.end()
    assert sorted(metric_steps(run)) == [10, 20, 30, 40]
    assert len({session.run_id for session in logged(run)}) == 1
    assert sorted(session.exit_code for session in logged(run)) == [0, 1]


def test_the_line_about_an_upload_names_every_session_that_is_not_uploaded(run, caplog):
    caplog.set_level("INFO")
    for start, end in ((0, 10), (10, 20), (20, 30)):
        train(run, start, end, checkpoints=(end,))
        run.end()
        time.sleep(1 - time.time() % 1)  # wandb names the folder of a session by the second
        if start == 0:  # as ``wandb sync`` does
            (first,) = (run.data_dir / "08_reporting").rglob("run-*.wandb")
            first.with_name(f"{first.name}.synced").touch()
    sessions = logged(run)
    assert [row["_step"] for session in sessions for row in session.history] == [0, 1, 2]
    lines = [text for text in caplog.messages if "recorded offline; upload with: wandb sync " in text]
    named = [shlex.split(line.partition("wandb sync ")[2]) for line in lines]
    folders = sorted(str(path) for path in (run.data_dir / "08_reporting").rglob("offline-run-*"))
    assert named == [folders[:1], folders[1:2], folders[1:]]


def test_a_run_that_falls_back_to_an_older_checkpoint_logs_no_row_twice(run):
    train(run, 0, 10, 20, checkpoints=(10, 20))
    run.fail()
    train(run, 10, 20, 30, checkpoints=(20, 30))
    run.end()
    assert sorted(metric_steps(run)) == [10, 20, 30]


def test_the_run_folder_keeps_the_id_and_the_last_logged_step(run):
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    state = json.loads((run.folder / "tracking.json").read_text())
    assert state == {"run_id": logged(run)[0].run_id, "logged_step": 10}


def test_a_new_run_folder_begins_a_new_run(run):
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    shutil.rmtree(run.folder)
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    first, second = logged(run)
    assert first.run_id != second.run_id
    assert metric_steps(run) == [10, 10]


def test_training_anew_in_the_folder_of_a_deleted_one_begins_a_new_run(run):
    train(run, 0, 10, 20, checkpoints=(20,))
    run.end()
    shutil.rmtree(run.folder / "checkpoints")
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    first, second = logged(run)
    assert first.run_id != second.run_id
    assert sorted(metric_steps(run)) == [10, 10, 20]


def test_a_run_that_has_only_a_figure_takes_the_rows_of_training(run):
    import plotly.graph_objects as go

    run.begin()
    run.catalog["study"] = StudyDataset(filepath=str(run.data_dir / "study.db"))
    run.show("study", TrialResult(0, "complete", {}, 2.0, 20, 1.0, True, 2.0, ()))
    run.show("search_history_figure", go.Figure(), ["study"])
    run.end()
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    assert len({session.run_id for session in logged(run) if not session.group}) == 1


def test_samples_are_logged_with_their_step(run):
    run.begin()
    run.start()
    run.progress(10, "once upon", "a time", eval_loss=3.0)
    run.checkpoint(10)
    run.end()
    (session,) = logged(run)
    row, samples = session.history
    assert (row["train/step"], row["eval/loss"]) == (10, 3.0)
    assert samples["train/step"] == 10
    table = next((run.data_dir / "08_reporting").rglob(samples["samples"]["path"]))
    assert json.loads(table.read_text())["data"] == [["once upon"], ["a time"]]


def test_parameters_and_manifest_are_logged_without_secrets(run):
    run.parameters |= {"training": {"learning_rate": 1e-3, "sample_tokens": 48}, "hub": {"token": "hf_" + "x" * 34}}
    train(run, 0)
    run.end()
    (session,) = logged(run)
    assert session.config["training"] == {"learning_rate": 1e-3, "sample_tokens": 48}
    assert session.config["manifest"]["identity"] == {"model": "abc"}
    assert session.config["hub"] == {}


def test_reports_wait_for_a_run_and_open_none(run):
    run.begin()
    run.show("validation_report", REPORT)
    run.end()
    assert logged(run) == []


@pytest.mark.parametrize("pipeline", ["validation", "data_engineering"])
def test_nothing_that_checks_a_model_or_prepares_data_opens_a_run(run, pipeline):
    import plotly.graph_objects as go

    from transformer_foundry.pipeline_registry import register_pipelines

    results = {"validation_report": REPORT, "data_profile": PROFILE, "token_splits": make_splits()}
    run.begin(outputs=())
    for node in register_pipelines()[pipeline].nodes:
        for name in node.outputs:
            run.show(name, go.Figure() if name.endswith("figure") else results.get(name), node.inputs)
    run.end()
    assert logged(run) == []


def test_reports_and_evaluation_are_in_the_summary(run):
    run.begin()
    run.show("validation_report", REPORT)
    run.start()
    run.show("evaluation", {"step": 10, "validation": {"loss": 2.5}, "comparisons": [{"sentence": "beats"}]})
    run.end()
    (session,) = logged(run)
    assert session.summary["validation_report/status"] == "fail"
    assert session.summary["evaluation/validation/loss"] == 2.5
    assert any("validation_report/findings" in row for row in session.history)


def test_the_report_of_an_earlier_command_is_logged_with_training(run):
    run.begin()
    run.read("validation_report", REPORT)
    run.start()
    run.end()
    assert logged(run)[0].summary["validation_report/status"] == "fail"


def test_figures_of_both_libraries_are_logged(run):
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    run.begin()
    run.start()
    run.progress(10)
    run.show("loss_figure", go.Figure(go.Scatter(y=[2, 1])), ["training_run"])
    run.show("attention_figure", Figure(), ["training_run"])
    run.end()
    rows = [item for row in logged(run)[0].history for item in row.items()]
    kinds = {name: value["_type"] for name, value in rows if name.startswith("figures/")}
    assert kinds == {"figures/loss_figure": "plotly-file", "figures/attention_figure": "image-file"}


def test_the_package_is_an_artifact_only_when_asked_for(run, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.pt2").write_text("weights")
    run.catalog["model_package"] = PackageDataset(filepath=str(folder))
    for log_package in (False, True):
        run.parameters["tracking"] = {"log_package": log_package}
        run.begin()
        run.show("model_package", Package(Path("gone"), {"formats": {"pt2": "passed"}}))
        run.end()
    assert [session.config["package"] for session in logged(run)] == [{"formats": {"pt2": "passed"}}] * 2
    artifacts = [artifact for session in logged(run) for artifact in session.artifacts]
    assert artifacts == [{"name": "gpt-package", "type": "model", "files": ["model.pt2"]}]


def test_a_failure_sends_an_alert_in_the_words_of_the_error(run):
    train(run, 0, 10, checkpoints=(10,))
    run.fail(TrainingError("The loss is not finite.", "A number.", "Lower it."))
    (session,) = logged(run)
    assert session.alerts == [("gpt failed", "The loss is not finite.")]


def test_the_best_checkpoint_is_an_artifact_only_when_asked_for(run):
    for log_checkpoint in (False, True):
        run.parameters["tracking"] = {"log_checkpoint": log_checkpoint}
        train(run, 0, 10, checkpoints=(10,))
        run.show("evaluation", {"step": 10, "validation": {"loss": 2.5}, "comparisons": []})
        run.end()
    (artifact,) = [artifact for session in logged(run) for artifact in session.artifacts]
    assert (artifact["name"], artifact["type"]) == ("gpt-checkpoint", "checkpoint")
    assert "weights.safetensors" in artifact["files"]


def test_each_trial_is_a_run_of_its_own_in_one_group(run):
    run.begin()
    curve = ((10, 3.0), (20, 2.0))
    run.show("study", TrialResult(0, "complete", {"learning_rate": 1e-3}, 2.0, 20, 1.0, True, 2.0, curve))
    run.show("study", TrialResult(1, "failed", {"learning_rate": 1.0}, None, 0, 1.0, False, 2.0, (), "RuntimeError"))
    run.end()
    first, second = sorted(logged(run), key=lambda session: session.name)
    assert (first.group, second.group) == ("gpt-tuning", "gpt-tuning")
    assert [(row["train/step"], row["eval/loss"]) for row in first.history] == list(curve)
    assert (first.config["learning_rate"], first.summary["state"]) == (1e-3, "complete")
    assert (second.summary["error"], second.exit_code) == ("RuntimeError", 1)


@pytest.mark.parametrize("tracking", [{"enabled": False}, {"mode": "disabled"}])
def test_tracking_can_be_turned_off(run, tracking):
    run.parameters["tracking"] = tracking
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    assert not (run.data_dir / "08_reporting").exists()


def test_only_the_first_process_logs(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    train(run, 0, 10, checkpoints=(10,))
    run.end()
    assert logged(run) == []


def test_a_tracker_that_fails_is_off_after_one_warning(run, monkeypatch, caplog):
    monkeypatch.setattr(WandbRun, "_start_run", lambda *_, **__: 1 / 0)
    train(run, 0, 10, 20, checkpoints=(10, 20))
    run.end()
    assert [record.getMessage() for record in caplog.records] == [
        "W&B tracking is off for the rest of this run: ZeroDivisionError: division by zero"
    ]


def run_process(run, *arguments, **environment):
    """Track in another process; one of its own for wandb too, which would join that of this process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    command = [sys.executable, "-m", "tests.hooks.tracking.tracked_process", str(run.data_dir), *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_means_offline(run):
    server = {"WANDB_API_KEY": "f" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    process = run_process(run, 0, 20, "end", **server)
    assert process.returncode == 0
    assert process.stderr.count("W&B cannot be reached") == 1
    assert metric_steps(run) == [10, 20]


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        ("auto", {}, "offline"),
        ("online", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "f" * 40}, "online"),
        ("auto", {"WANDB_API_KEY": "f" * 40, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_API_KEY": "f" * 40}, "offline"),
    ],
)
def test_without_a_key_nothing_goes_online(monkeypatch, tmp_path, mode, environment, expected):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert choose_mode(mode) == expected


def test_a_key_in_netrc_counts(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert choose_mode("auto") == "online"


def test_secrets_are_left_out_by_name_and_by_form():
    values = {
        "hf_token": "x",
        "api_key": "x",
        "tokenizer": "auto",
        "sample_tokens": 48,
        "source": "https://user:secret@host/file",
        "inner": {"note": "hf_" + "a" * 34, "seed": 0},
    }
    assert without_secrets(values) == {"tokenizer": "auto", "sample_tokens": 48, "inner": {"seed": 0}}


@pytest.mark.slow
def test_rows_that_a_kill_took_from_wandb_are_logged_by_the_next_session(run):
    assert run_process(run, 0, 20, "kill", WANDB_MODE="offline").returncode == -signal.SIGKILL
    train(run, 20, 30, 40, checkpoints=(40,))
    run.end()
    assert metric_steps(run, killed=1) == [10, 20, 30, 40]


def test_a_comparison_and_the_worst_examples_are_tables(run):
    run.begin()
    run.show("comparison", {"models": [{"model": "gpt", "loss": 2.0}, {"model": "llama", "loss": 1.9}]})
    run.show(
        "error_analysis",
        {"task": "seq2seq_lm", "split": "validation", "examples": 9, "worst": [{"row": 7, "loss": 3.5, "text": "a b"}]},
    )
    run.end()
    (session,) = logged(run)
    tables = {}
    for name in ("comparison", "worst_examples"):
        row = next(row for row in session.history if name in row)
        path = next((run.data_dir / "08_reporting").rglob(row[name]["path"]))
        tables[name] = json.loads(path.read_text())["data"]
    assert tables == {"comparison": [["gpt", 2.0], ["llama", 1.9]], "worst_examples": [[7, 3.5, "a b"]]}


def test_what_wandb_does_not_take_costs_nothing_else_in_this_session_or_a_later_one(run, caplog):
    import plotly.graph_objects as go

    for first, last in ((0, 20), (20, 40)):
        run.begin()
        run.start(first)
        for step in (first + 10, last):
            run.progress(step, "once", 5)  # a table has one type in each column
        run.checkpoint(last)
        run.show("error_analysis", ANALYSIS)
        run.show("loss_figure", go.Figure(go.Scatter(y=[2, 1])), ["training_run"])
        run.end()
    assert metric_steps(run) == [10, 20, 30, 40]
    assert any("figures/loss_figure" in row for session in logged(run) for row in session.history)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 2  # one for each session
    assert "W&B has not taken worst_examples, samples (" in lines[0]
    assert "kedro tracking replay gpt" in lines[0]


WORST = [{"loss": 2.0, "text": "a"}, {"loss": "high", "text": "b"}]
ANALYSIS = {"task": "causal_lm", "split": "validation", "examples": 9, "worst": WORST}


def test_metrics_that_an_online_run_refuses_are_recorded_offline_without_gap_or_double(run, monkeypatch, caplog):
    real = WandbRun._start_run

    class Broken:
        """An online run that takes one row."""

        def __init__(self, inner):
            self._inner, self.taken = inner, []

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def log(self, row):
            if self.taken:
                raise BrokenPipeError(32, "Broken pipe")
            self.taken.append(row)

    opened = []

    def start(self, run_id, **arguments):
        found = real(self, run_id, **arguments)
        self._mode = "offline" if opened else "online"
        opened.append(found if opened else Broken(found))
        return opened[-1]

    monkeypatch.setattr(WandbRun, "_start_run", start)
    train(run, 0, 10, 20, 30, checkpoints=(30,))
    run.end()
    assert [row["train/step"] for row in opened[0].taken] == [10]
    assert metric_steps(run) == [20, 30]
    assert "W&B takes no more metrics" in caplog.text
