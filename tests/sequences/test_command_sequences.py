"""After any sequence of commands, every statement about a run is true of the artefacts that it names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.command_server import verifications_forked
from tests.integration.foundry import PROJECT
from tests.loopback.mini_hub import MiniHub
from tests.sequences.commands import Project, copy_workspace, import_what_was_imported, kill_at_step, kill_before

FIXTURES = PROJECT / "tests" / "fixtures"

Step = Callable[[Project], object]


def run(pipeline: str = "__default__", **changes: object) -> Step:
    """Run a pipeline; ``training__max_steps=8`` is a parameter."""
    return lambda project: project.run(pipeline, _dotted(changes))


def killed(node: str, pipeline: str = "__default__", **changes: object) -> Step:
    return lambda project: project.run(pipeline, _dotted(changes), kill_before(node))


def killed_at(step: int, pipeline: str = "__default__", **changes: object) -> Step:
    return lambda project: project.run(pipeline, _dotted(changes), kill_at_step(step))


def _dotted(changes: dict[str, object]) -> dict[str, object]:
    return {name.replace("__", "."): value for name, value in changes.items()}


def edit_text(project: Project) -> None:
    path = project.folder / "text.txt"
    path.write_text(path.read_text().replace("orchard", "garden") + "\n\nThe gate of the garden is open in May.\n")


def edit_model(project: Project) -> None:
    path = project.folder / "tiny" / "model.py"
    path.write_text(path.read_text().replace("nn.GELU()", "nn.SiLU()"))


def delete(pattern: str) -> Step:
    def step(project: Project) -> None:
        for path in list(project.data_dir.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return step


def damage(pattern: str) -> Step:
    def step(project: Project) -> None:
        for path in project.data_dir.glob(pattern):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0xFF
            path.unlink()  # a hard link would damage the registry's copy, too
            path.write_bytes(content)

    return step


def restore(project: Project) -> None:
    project.kedro("checkpoints", "restore", "tiny", "--step", "2", "--data-dir", str(project.data_dir))


def publish(repo: str = "alice/tiny") -> Step:
    return lambda project: project.kedro("hub", "publish", str(project.data_dir / "07_model_output/tiny"), repo)


def deploy_to_hub(repo: str = "alice/tiny") -> Step:
    def step(project: Project) -> None:
        parameters = project.parameters({"deployment.hub_repo": repo})
        project.kedro("run", "--pipelines", "deployment", "--params", parameters)

    return step


def same_bytes_again(project: Project) -> None:
    folder = project.data_dir / "07_model_output/tiny"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    project.run("deployment")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    project.claims.check("package", "two deployments have the same bytes", before == after)


LONGER = {"training__max_steps": 8}
OTHER = {"data__source": str(FIXTURES / "other.txt")}
MODEL = {"model__source": str(FIXTURES / "tiny"), "model__kind": "decoder-only"}
REPORTS, RUN, PACKAGE = "08_reporting/tiny", "06_models/tiny", "07_model_output/tiny"

FROM_NOTHING: dict[str, list[Step]] = {
    "validation, then all": [run("validation"), run()],
    "data alone, then training": [run("data_engineering"), run("training")],
    "killed while the model is checked": [killed("read_data"), run("training")],
    "killed before the profile": [killed("profile_data"), run("training")],
    "killed at step 3, then to the end": [killed_at(3), run()],
    "killed before the evaluation": [killed("evaluate_model"), run("training")],
    "killed before the package": [killed("make_package"), run()],
    "killed before the registration": [killed("register_package"), run()],
    "a search, then its values": [run("tuning"), run("training", training__use_best=True)],
    "models side by side": [
        run("comparison", benchmark__models=["gpt2", "llama"], benchmark__seeds=1),
        run("training"),
    ],
}

FROM_TRAINED: dict[str, list[Step]] = {
    "again": [run()],
    "deployed again": [same_bytes_again, run("deployment")],
    "more steps": [run("training", **LONGER)],
    "more steps, then deployed": [run("training", **LONGER), run("deployment", **LONGER)],
    "more steps, killed at step 6": [killed_at(6, "training", **LONGER), run("training", **LONGER)],
    "more steps, killed before the evaluation": [killed("evaluate_model", "training", **LONGER)],
    "more steps, killed before the errors": [
        killed("analyze_errors", "training", **LONGER), run("deployment", **LONGER),
    ],
    "more steps, killed before the curves": [killed("draw_curves", "training", **LONGER)],
    "fewer steps": [run("training", training__max_steps=2)],
    "other data": [run("training", **OTHER)],
    "other data, then the old ones": [run("training", **OTHER), run("training")],
    "other data prepared, then deployed": [run("data_engineering", **OTHER), run("deployment")],
    "other data under another name": [run("training", run__name="second", **OTHER), run()],
    "text edited in place": [edit_text, run("training")],
    "text edited, prepared, then deployed": [edit_text, run("data_engineering"), run("deployment")],
    "text edited, everything": [edit_text, run()],
    "other data, killed before the profile": [killed("profile_data", **OTHER), run()],
    "model edited in place": [edit_model, run("training")],
    "model edited and checked": [edit_model, run("validation")],
    "model edited, everything": [edit_model, run()],
    "another seed": [run("training", training__seed=3)],
    "another learning rate": [run("training", training__learning_rate=0.01), run("training")],
    "another tokenizer": [run("training", data__tokenizer="byte"), run("deployment")],
    "another preset of the data": [run("training", data__validation_share=0.2)],
    "refused: no such data": [run("training", data__source="missing.txt"), run("training")],
    "refused: no such model": [run(model__source="missing"), run("deployment")],
    "refused: a bad value": [run("training", training__learning_rate=-1.0)],
    "a fork": [run("training", run__name="fork", run__fork_from="tiny", run__preparation="tiny", **LONGER)],
    "two runs of one preparation": [
        run("training", run__name="second", run__preparation="tiny", training__seed=5),
        run("deployment", run__name="second", run__preparation="tiny", training__seed=5),
    ],
    "two runs, then other data for one": [
        run("training", run__name="second", run__preparation="tiny", training__seed=5), run("training", **OTHER),
    ],
    "checkpoints deleted": [delete(f"{RUN}/checkpoints"), run("deployment")],
    "run deleted": [delete(RUN), run("training", training__seed=9)],
    "reports deleted": [delete(REPORTS), run("training")],
    "tokens deleted": [delete("05_model_input/tiny/tokens"), run("training")],
    "evaluation deleted": [delete(f"{REPORTS}/evaluation.json"), run("deployment")],
    "package deleted": [delete(PACKAGE), run("deployment")],
    "newest checkpoint damaged": [damage(f"{RUN}/checkpoints/step-00000004*/weights.safetensors"), run("training")],
    "best checkpoint damaged, deployed": [
        damage(f"{RUN}/checkpoints/step-00000004*/weights.safetensors"), run("deployment"),
    ],
    "evaluation damaged": [damage(f"{REPORTS}/evaluation.json"), run("training")],
    "metrics damaged": [damage(f"{RUN}/metrics.jsonl"), run("training")],
    "package damaged": [damage(f"{PACKAGE}/model.safetensors"), run("deployment")],
    "an earlier checkpoint restored": [restore, run("training")],
    "restored, then deployed": [restore, run("deployment")],
    "a search beside the run": [run("tuning"), run()],
    "other settings of the evaluation": [run("training", training__per_device_eval_batch_size=2)],
    "another license": [run("deployment", deployment__license="mit"), run("deployment")],
    "another name in the registry": [run("deployment", deployment__model_name="pear"), run("deployment")],
    "killed between two deployments": [killed("register_package", "deployment", **LONGER), run("deployment", **LONGER)],
}  # fmt: skip

PUBLISHED: dict[str, list[Step]] = {
    "published twice": [publish(), publish()],
    "published by deployment, then by hand": [deploy_to_hub(), publish()],
    "published, trained on, published": [publish(), run("deployment", **LONGER), publish()],
}


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = new_workspace(tmp_path_factory.mktemp("trained") / "work")
    project = Project(folder)
    # The processes that verify exported files are forks of one that has seen no model.
    with verifications_forked():
        assert project.run("__default__") == "ended", (folder / "log.txt").read_text()
        assert project.claims.false == []
        import_what_was_imported(folder)
        yield folder


def new_workspace(folder: Path) -> Path:
    folder.mkdir()
    shutil.copytree(FIXTURES / "tiny", folder / "tiny")
    shutil.copyfile(FIXTURES / "orchard.txt", folder / "text.txt")
    return folder


def verify(project: Project, steps: list[Step]) -> None:
    for step in steps:
        step(project)
    assert project.claims.n_checked > 0
    assert project.claims.false == [], "\n".join(
        [*project.outcomes, *project.claims.false[:20], f"{len(project.claims.false)} of {project.claims.n_checked}"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_NOTHING)
def test_every_statement_is_true_from_the_first_command_on(name: str, tmp_path: Path) -> None:
    verify(Project(new_workspace(tmp_path / "work")), FROM_NOTHING[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_TRAINED)
def test_every_statement_is_true_after_more_commands(name: str, trained: Path, tmp_path: Path) -> None:
    verify(Project(copy_workspace(trained, tmp_path / "work")), FROM_TRAINED[name])


@pytest.fixture
def hub() -> Iterator[MiniHub]:
    with MiniHub() as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_statement_is_true_of_what_is_published(name: str, trained: Path, tmp_path: Path, hub: MiniHub) -> None:
    project = Project(copy_workspace(trained, tmp_path / "work"), hub)
    verify(project, PUBLISHED[name])
    assert all(
        len({json.dumps(sorted(map(str, files))) for files in tags.values()}) for tags in project.releases().values()
    )
