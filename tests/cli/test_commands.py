"""The project's own commands, on a run of a tiny model."""

import json
import shutil

import pytest
from click.testing import CliRunner

from tests.core.training.tiny import make_model, make_options, make_splits
from transformer_foundry.cli import cli
from transformer_foundry.core.training import fit
from transformer_foundry.core.training.checkpointing.directory import (
    find_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    step_of,
)
from transformer_foundry.datasets.training_run import TrainingRunDataset


def train(folder, **changes):
    """Train a run into a folder, as the pipeline does."""
    dataset = TrainingRunDataset(filepath=str(folder))
    for record in fit(make_model(), make_splits(), make_options(save_total_limit=9, save_epochs=False, **changes)):
        dataset.save(record)
    dataset.wait()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    train(data_dir / "06_models" / "gpt")
    train(data_dir / "06_models" / "again")
    train(data_dir / "06_models" / "other", seed=1)
    return data_dir


@pytest.fixture
def data_dir(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(data_dir):
    def run(*arguments):
        result = CliRunner().invoke(cli, [*map(str, arguments), "--data-dir", str(data_dir)])
        return result.exit_code, result.output

    return run


def test_checkpoints_are_listed_with_their_state(run, data_dir):
    newest = newest_checkpoint(data_dir / "06_models" / "gpt")
    (newest / "state.json").write_text("noise")
    code, output = run("checkpoints", "list", "gpt")
    assert code == 0
    assert [line.split("  ")[1] for line in output.splitlines()[:2]] == ["step 4", "step 8"]
    assert output.splitlines()[2].startswith(f"{newest.name}  DAMAGED")


def test_a_checkpoint_is_inspected(run):
    code, output = run("checkpoints", "inspect", "gpt", "--step", 8)
    assert code == 0
    assert "step 8 of 12" in output
    assert "learning_rate: 0.01" in output


def test_a_run_is_restored_to_an_earlier_checkpoint_and_to_a_later_one(run, data_dir, tmp_path):
    folder = data_dir / "06_models" / "gpt"
    assert run("checkpoints", "export", "gpt", tmp_path / "kept")[0] == 0
    assert run("checkpoints", "restore", "gpt", "--step", 4)[0] == 0
    assert [step_of(path) for path in list_checkpoints(folder)] == [4]
    (exported,) = (tmp_path / "kept").iterdir()
    code, output = run("checkpoints", "restore", "gpt", "--from", exported)
    assert (code, output) == (0, "gpt resumes from step 12; 0 later checkpoints were moved aside.\n")
    assert find_checkpoint(folder, 12) == newest_checkpoint(folder)


def test_an_exported_checkpoint_is_not_overwritten(run, tmp_path):
    assert run("checkpoints", "export", "gpt", tmp_path / "kept")[0] == 0
    assert run("checkpoints", "export", "gpt", tmp_path / "kept")[0] == 2


def test_the_runs_are_listed_with_their_figures(run):
    code, output = run("runs", "list")
    assert code == 0
    rows = [line.split() for line in output.splitlines()]
    assert rows[0][0] == "run"
    assert sorted(row[0] for row in rows[1:]) == ["again", "gpt", "other"]
    assert {tuple(row[1:4]) for row in rows[1:]} == {("12", "12", "1")}


def listed(run, *arguments):
    code, output = run("runs", "list", *arguments)
    assert code == 0, output
    return [line.split() for line in output.splitlines()]


def test_the_losses_of_a_list_are_those_of_the_newest_checkpoint_and_not_read_from_its_rows(run, data_dir):
    folder = data_dir / "06_models" / "gpt"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    train = [row["train/loss"] for row in rows if "train/loss" in row][-1]
    best = min(row["eval/loss"] for row in rows if "eval/loss" in row)
    (folder / "metrics.jsonl").unlink()
    (shown,) = listed(run, "--where", "run=gpt")[1:]
    assert shown[4:6] == [f"{train:.4f}", f"{best:.4f}"]


def test_runs_are_filtered_and_sorted_by_columns_and_parameters(run):
    assert [row[0] for row in listed(run, "--where", "training.seed=1", "--where", "step>=12")[1:]] == ["other"]
    assert {row[0] for row in listed(run, "--where", "run~a")[1:]} == {"again"}
    rows = listed(run, "--sort", "training.seed")
    assert (rows[0][-1], [row[-1] for row in rows[1:]]) == ("training.seed", ["0", "0", "1"])
    assert len(listed(run, "--last", 2)) == 3
    losses = [float(row[5]) for row in listed(run, "--sort", "best_eval")[1:]]
    assert losses == sorted(losses)
    assert run("runs", "list", "--where", "best_eval<0") == (0, "No run fits best_eval<0.\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sort", "training.sed"], "Did you mean 'training.seed'?"),
        (["--where", "training.sed=1"], "Did you mean 'training.seed'?"),
        (["--where", "best_eval"], "'best_eval' is no condition."),
    ],
)
def test_a_wrong_name_or_condition_is_refused(run, arguments, expected):
    code, output = run("runs", "list", *arguments)
    assert (code, output.count("\n")) == (2, 3)
    assert expected in output


def test_two_equal_runs_are_identical_bit_for_bit(run):
    assert "optimizer: bit-for-bit identical" in run("runs", "compare", "gpt", "again")[1]


def test_two_runs_are_compared_by_what_differs(run):
    code, output = run("runs", "compare", "gpt", "other")
    assert code == 0
    assert "parameters.training.seed: 0 | 1" in output
    assert "optimizer: different" in output


def test_a_run_is_replayed_into_tracking(run, data_dir, monkeypatch):
    from tests.loopback.wandb_offline_reader import read_runs

    monkeypatch.setenv("WANDB_MODE", "offline")
    rows = (data_dir / "06_models" / "gpt" / "metrics.jsonl").read_text().splitlines()
    assert run("tracking", "replay", "gpt")[1].splitlines()[-1] == f"{len(rows)} rows logged."
    (session,) = read_runs(data_dir / "08_reporting" / "gpt")
    assert [row["train/step"] for row in session.history] == [json.loads(row)["step"] for row in rows]


@pytest.mark.parametrize("command", [("checkpoints", "list"), ("checkpoints", "inspect"), ("tracking", "replay")])
def test_an_unknown_run_is_refused_with_the_nearest_name(run, command):
    code, output = run(*command, "gtp")
    assert code == 2
    assert "no run named 'gtp'" in output
    assert "Did you mean 'gpt'?" in output


def test_a_step_without_a_checkpoint_is_refused(run):
    code, output = run("checkpoints", "inspect", "gpt", "--step", 5)
    assert (code, output.splitlines()[0]) == (2, "error: The run gpt has no checkpoint of step 5.")
