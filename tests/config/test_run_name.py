"""The run that a command works on is found by what it is: its model, its data and the values that a run keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.config.run_name import RunChoice, accept_run, require_free
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.lock import RunLock

ROOT = Path(__file__).parents[2]
EXPORTS = ROOT / "data" / "01_raw" / "exports"


class Project:
    """Commands on one data folder."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "data" / "06_models"
        self.drive = folder / "drive"
        self.model, self.data = folder / "gpt", folder / "texts.txt"
        shutil.copytree(EXPORTS / "gpt", self.model)
        self.data.write_text("first\nsecond\n")

    def choose(self, **sections: Any) -> RunChoice:
        return self._load(sections)[0]

    def train(self, *, step: int | None = 100, **sections: Any) -> str:
        """Start a run and, unless ``step`` is None, save a checkpoint."""
        choice, parameters = self._load(sections)
        accept_run(choice, parameters)
        if step is not None:
            (self.runs / choice.name / "checkpoints" / f"step-{step:08d}").mkdir(parents=True, exist_ok=True)
        return choice.name

    def _load(self, sections: dict[str, Any]) -> tuple[RunChoice, dict[str, Any]]:
        given = {"data_dir": str(self.runs.parent), "model": {"source": str(self.model)}, "drive": {"folder": None}}
        given |= {"data": {"source": str(self.data)}}
        for section, values in sections.items():
            given[section] = given.get(section, {}) | values if isinstance(values, dict) else values  # type: ignore[operator]
        loader = FoundryConfigLoader(str(ROOT / "conf"), runtime_params=given, base_env="base", default_run_env="local")
        parameters = loader["parameters"]
        assert loader.run_choice is not None
        assert loader["parameters"]["run"]["name"] == loader.run_choice.name
        return loader.run_choice, parameters


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def edit_data(project: Project) -> None:
    project.data.write_text("other\ntexts!\n")


def edit_model(project: Project) -> None:
    with (project.model / "model.py").open("a") as file:
        file.write("\n# edited\n")


def move_everything(project: Project) -> None:
    moved = project.data.parent / "moved"
    moved.mkdir()
    project.model = project.model.rename(moved / "gpt")
    project.data = project.data.rename(moved / "texts.txt")


CONTINUED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "more steps": {"training": {"max_steps": 600}},
    "another interval of evaluations": {"training": {"eval_steps": 7, "save_steps": 9, "device": "cpu"}},
    "what is published": {"deployment": {"formats": ["pytorch"], "license": "mit"}, "tracking": {"enabled": False}},
    "a default that is given": {"training": {"learning_rate": 0.002, "ema_decay": None}},
}
ANOTHER: dict[str, dict[str, Any]] = {
    "learning rate": {"training": {"learning_rate": 0.001}},
    "optimizer": {"training": {"optimizer": "sgd"}},
    "seed": {"training": {"seed": 1}},
    "data": {"data": {"source": "built-in"}},
    "splits of the data": {"data": {"validation_share": 0.1}},
    "tokenizer": {"data": {"tokenizer": "bytes"}},
    "model": {"model": {"source": str(EXPORTS / "bert")}},
    "task": {"model": {"task": "causal_lm"}},
    "weights to start from": {"model": {"init_from": "alice/gpt"}},
    "fork": {"run": {"fork_from": "gpt"}},
}


@pytest.mark.parametrize("sections", CONTINUED.values(), ids=CONTINUED)
def test_what_may_change_continues_the_run(project: Project, sections: dict[str, Any]) -> None:
    project.train()
    choice = project.choose(**sections)
    assert (choice.name, choice.preparation, choice.is_new) == ("gpt", "gpt", False)


@pytest.mark.parametrize("sections", ANOTHER.values(), ids=ANOTHER)
def test_what_makes_another_run_is_trained_beside_it_and_found_again(
    project: Project, sections: dict[str, Any]
) -> None:
    sections = sections | {"run": {"name": "gpt"} | sections.get("run", {})}
    project.train()
    choice = project.choose(**sections)
    assert (choice.name, choice.preparation, choice.is_new) == ("gpt-2", "gpt-2", True)
    assert choice.changes
    assert project.train(**sections) == "gpt-2"
    assert not project.choose(**sections).is_new
    assert project.choose().name == "gpt"
    assert project.train(training={"seed": 99}) == "gpt-3"


@pytest.mark.parametrize("edit", [edit_data, edit_model])
def test_edited_files_make_another_run(project: Project, edit: Callable[[Project], None]) -> None:
    project.train()
    edit(project)
    choice = project.choose()
    assert choice.name == "gpt-2"
    assert len(choice.changes) == 1


def test_moved_files_are_the_same(project: Project) -> None:
    project.train()
    move_everything(project)
    assert project.choose().name == "gpt"


def test_a_run_without_anything_saved_gives_its_name_to_the_next(project: Project) -> None:
    project.train(step=None)
    changed = {"training": {"learning_rate": 0.001}}
    assert project.choose(**changed).name == "gpt"
    assert project.train(**changed) == "gpt"
    assert project.choose().name == "gpt-2"


def test_a_run_that_another_process_has_just_started_keeps_its_name(project: Project) -> None:
    project.train(step=None)
    lock = RunLock(project.runs / "gpt")
    lock.acquire()
    assert project.choose(training={"seed": 1}).name == "gpt-2"
    assert project.choose().name == "gpt"
    lock.release()
    assert project.choose(training={"seed": 1}).name == "gpt"


def test_of_two_commands_that_choose_one_name_at_once_the_second_is_refused(project: Project) -> None:
    first, parameters = project._load({})
    second, others = project._load({"training": {"seed": 1}})
    assert first.name == second.name == "gpt"
    require_free(first, parameters)
    accept_run(first, parameters)
    lock = RunLock(project.runs / "gpt")
    lock.acquire()
    with pytest.raises(CheckpointError, match="Run the same command again"):
        require_free(second, others)
    lock.release()


def test_refuse_keeps_the_name(project: Project) -> None:
    project.train()
    choice = project.choose(run={"on_change": "refuse"}, training={"seed": 1})
    assert (choice.name, choice.changes) == ("gpt", {"training.seed": (0, 1)})


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_run_whose_files_are_damaged_is_not_silently_another(project: Project, damage: bytes) -> None:
    project.train()
    (project.runs / "gpt" / "request.json").write_bytes(damage)
    (project.runs / "gpt" / "manifest.json").write_bytes(damage)
    assert project.choose().unreadable == "gpt"
    assert project.choose(training={"seed": 1}).unreadable == "gpt"


def test_a_run_of_an_earlier_version_is_known_by_its_manifest(project: Project) -> None:
    project.train()
    request = json.loads((project.runs / "gpt" / "request.json").read_text())
    (project.runs / "gpt" / "request.json").unlink()
    sections: dict[str, dict[str, Any]] = {"model": {}, "data": {}, "training": {}}
    for name, value in request.items():
        section, _, key = name.partition(".")
        if section in sections and key != "files":
            sections[section][key] = value
    (project.runs / "gpt" / "manifest.json").write_text(json.dumps({"parameters": sections}))
    assert not project.choose().is_new
    assert project.choose(training={"seed": 1}).name == "gpt-2"


def test_a_fork_that_is_named_is_continued_without_its_origin(project: Project) -> None:
    assert project.train(run={"name": "long", "fork_from": "gpt"}) == "long"
    assert project.choose(run={"name": "long"}).name == "long"
    assert project.choose(run={"name": "long", "fork_from": "other"}).name == "long-2"


def test_a_run_with_the_result_of_a_search_is_another_after_another_search(project: Project) -> None:
    project.train(step=None)
    tuning = project.runs / "gpt" / "tuning"
    tuning.mkdir()
    best = {"training": {"use_best": True}}
    (tuning / "best_parameters.json").write_text(json.dumps({"parameters": {"learning_rate": 0.004}}))
    assert project.train(**best) == "gpt-best"
    choice = project.choose(**best)
    assert (choice.name, choice.preparation, choice.is_new) == ("gpt-best", "gpt", False)
    (tuning / "best_parameters.json").write_text(json.dumps({"parameters": {"learning_rate": 0.005}}))
    assert project.choose(**best).name == "gpt-best-2"
    edit_data(project)
    assert project.choose().name == "gpt-2"


def test_the_search_with_the_data_at_hand_is_used(project: Project) -> None:
    for rate in (0.004, 0.005):
        name = project.train(step=None)
        (project.runs / name / "tuning").mkdir()
        (project.runs / name / "tuning" / "best_parameters.json").write_text(
            json.dumps({"parameters": {"learning_rate": rate}})
        )
        edit_data(project)
    project.data.write_text("first\nsecond\n")
    assert project.choose(training={"use_best": True}).preparation == "gpt"
    edit_data(project)
    assert project.choose(training={"use_best": True}).preparation == "gpt-2"


def test_a_preparation_that_another_run_uses_is_not_changed(project: Project) -> None:
    shared = {"run": {"name": "long", "preparation": "gpt"}}
    assert project.train(**shared) == "long"
    assert project.choose(run={"name": "wide", "preparation": "gpt"}, training={"seed": 1}).preparation == "gpt"
    edit_data(project)
    assert project.choose(run={"name": "wide", "preparation": "gpt"}).preparation == "gpt-2"
    assert project.choose().name == "gpt-2"


def test_a_new_machine_finds_the_names_on_drive(project: Project) -> None:
    project.train()
    project.train(training={"seed": 1})
    shutil.copytree(project.runs, project.drive)
    shutil.rmtree(project.runs)
    drive = {"folder": str(project.drive)}
    for sections in ({}, {"training": {"seed": 1}}, {"training": {"seed": 2}}):
        name = project.choose(drive=drive, **sections).name
        assert name == ["gpt", "gpt-2", "gpt-3"][sections.get("training", {}).get("seed", 0)]
    assert project.choose().name == "gpt"


def test_a_new_machine_finds_the_result_of_a_search_on_drive(project: Project) -> None:
    project.train(step=None)
    copy = project.drive / "files" / "06_models" / "gpt" / "tuning" / "best_parameters.json" / "000001-abc"
    copy.mkdir(parents=True)
    (copy / "best_parameters.json").write_text(json.dumps({"parameters": {"learning_rate": 0.004}}))
    sections = {"drive": {"folder": str(project.drive)}, "training": {"use_best": True}}
    assert project.train(**sections) == "gpt-best"
    shutil.copytree(project.runs / "gpt-best", project.drive / "gpt-best")
    shutil.rmtree(project.runs)
    assert not project.choose(**sections).is_new


def test_a_search_of_an_earlier_version_is_continued(project: Project) -> None:
    (project.runs / "gpt" / "tuning").mkdir(parents=True)
    assert not project.choose().is_new


def test_a_number_in_a_name_is_no_claim(project: Project) -> None:
    assert project.train(run={"name": "gpt-2"}, training={"seed": 5}) == "gpt-2"
    assert project.train() == "gpt"
    assert project.train(training={"seed": 5}) == "gpt-2"
    assert project.train(training={"seed": 6}) == "gpt-3"


def test_choosing_writes_nothing(project: Project) -> None:
    project.choose()
    assert not project.runs.parent.exists()
    project.train()
    before = sorted(project.runs.rglob("*"))
    project.choose(training={"seed": 1})
    assert sorted(project.runs.rglob("*")) == before
