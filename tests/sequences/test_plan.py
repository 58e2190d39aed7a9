"""What ``kedro plan`` and the lines of a run say is what then happens, and the commands that they print work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sequences.commands import Project, copy_workspace, import_what_was_imported
from tests.sequences.test_command_sequences import RUN, damage, delete, edit_text, new_workspace
from transformer_foundry.console.params_text import parse_params

STAGES = ("validation", "data_engineering", "training", "evaluation")


def nothing(project: Project) -> None:
    pass


def planned_rows(said: str) -> dict[str, str]:
    """Return what a plan says of each stage."""
    found = re.findall(rf"^({'|'.join(STAGES)}) +(up to date|would \w+(?: compared)?)", said, re.M)
    return {stage: "would be compared" if what == "would be" else what for stage, what in found}


def has_happened(stage: str, what: str, log: str) -> bool:
    """Return whether a command has done with a stage what was said."""
    is_reused = f"{stage}: up to date" in log
    if what == "would be compared":
        return True
    if what == "would start":
        return "Training starts at step 0" in log
    if what == "would resume":
        return "Training resumes at step" in log
    # A part that was damaged is made again, beside parts of its stage that are whole.
    return is_reused == (what == "up to date") or (what == "would run" and "is made again" in log)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_workspace(tmp_path_factory.mktemp("trained") / "work")
    project = Project(folder)
    assert project.run("training") == "ended", project.log
    import_what_was_imported(folder)
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Project:
    """A copy of the trained workspace, whose run was started with the text of the copy."""
    work = copy_workspace(trained, tmp_path / "work")
    for path in work.glob("data/06_models/*/request.json"):
        path.write_text(path.read_text().replace(str(trained), str(work)))
    return Project(work)


def printed_command(text: str) -> dict[str, Any]:
    """Return the parameters of the last command that a log or an error names."""
    command = shlex.split(text[text.rindex("kedro run --") :].splitlines()[0])
    return parse_params(command[command.index("--params") + 1])


def fork_of_other_text(project: Project) -> str:
    assert project.run("training", {"run.name": "fork", "run.fork_from": "tiny", "training.max_steps": 8}) == "refused"
    return project.log


def fork_without_steps(project: Project) -> str:
    assert project.run("training", {"run.name": "fork", "run.fork_from": "tiny", "training.seed": 3}) == "refused"
    return project.log


def run_of_other_text(project: Project) -> str:
    assert project.run("training") == "ended"
    return next(line for line in project.log.splitlines() if line.startswith("Starts the run"))


@pytest.mark.parametrize("command", [fork_of_other_text, run_of_other_text])
def test_a_printed_command_starts_from_the_weights_on_other_text(project: Project, command: Any) -> None:
    edit_text(project)
    said = command(project)
    left = project.runs
    assert "fork" not in left  # a refused command has written nothing
    assert project.run_parameters("training", printed_command(said)) == "ended", project.log
    assert len(project.runs - left) == 1
    assert "Begins with the weights of run tiny" in project.log or "Forked from" in project.log
    assert project.claims.false == []


def test_a_fork_that_is_at_its_end_is_refused_with_the_steps_that_it_needs(project: Project) -> None:
    said = fork_without_steps(project)
    assert "is at step 4, but training.max_steps is 4" in said
    assert "fork" not in project.runs
    assert project.run_parameters("training", printed_command(said)) == "ended", project.log
    assert "step 8/8" in project.log


FIRST = {"run.name": "first"}
PLANNED: dict[str, tuple[Callable[[Project], object], dict[str, object], dict[str, str]]] = {
    "a first run": (delete("*"), {}, {"data_engineering": "would run", "training": "would start"}),
    "a new name": (nothing, FIRST, {"validation": "would run", "training": "would start"}),
    "nothing changed": (nothing, {}, dict.fromkeys(STAGES, "up to date")),
    "other data": (edit_text, {}, {"data_engineering": "would run", "training": "would start"}),
    "another learning rate": (nothing, {"training.learning_rate": 0.01}, {"training": "would start"}),
    "more steps": (nothing, {"training.max_steps": 6}, {"validation": "up to date", "training": "would resume"}),
    "other samples": (nothing, {"training.num_samples": 2}, {"training": "up to date", "evaluation": "would run"}),
    "damaged tokens": (
        damage("05_model_input/tiny/tokens/*/train*.bin"),
        {},
        {"data_engineering": "would run", "training": "up to date"},
    ),
    "damaged tokenizer": (
        damage("05_model_input/tiny/tokenizer/tokenizer.json"), {}, {"data_engineering": "would run"},
    ),
    "damaged newest checkpoint": (
        damage(f"{RUN}/checkpoints/step-00000004*/weights.safetensors"), {}, {"training": "would resume"},
    ),
    "evaluation deleted": (delete("08_reporting/tiny/samples.json"), {}, {"evaluation": "would run"}),
    "another run is refused": (nothing, {"training.seed": 4, "run.on_change": "refuse"}, {}),
    "the same run with refuse": (nothing, {"run.on_change": "refuse"}, dict.fromkeys(STAGES, "up to date")),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANNED)
def test_a_run_does_what_its_plan_says(project: Project, name: str) -> None:
    prepare, changes, expected = PLANNED[name]
    prepare(project)
    before = sorted(project.data_dir.rglob("*"))
    planned = project.plan("training", changes)
    said, rows = project.log, planned_rows(project.log)
    assert sorted(project.data_dir.rglob("*")) == before  # a plan writes nothing
    assert rows.items() >= expected.items(), said
    assert project.run("training", changes) == planned
    if planned == "refused":
        what, expected_values, _ = said.removeprefix("error: ").splitlines()
        assert what in project.log
        assert expected_values in project.log
    for stage, what in rows.items():
        assert has_happened(stage, what, project.log), f"{stage} {what}\n{said}\n{project.log}"
    run_of_plan = re.search(r"Would start the run ([\w-]+);", said)
    assert (run_of_plan is None) == ("Starts the run" not in project.log), said
    assert run_of_plan is None or f"Starts the run {run_of_plan[1]};" in project.log


def test_a_plan_says_why_another_run_starts_and_what_is_damaged(project: Project) -> None:
    project.plan("training", {"training.learning_rate": 0.01})
    assert (
        "Would start the run tiny-2; tiny is another one: training.learning_rate was 0.002 and is 0.01." in project.log
    )
    assert "To continue tiny: kedro run --pipelines training" in project.log
    assert "no validation report of tiny yet" not in project.log
