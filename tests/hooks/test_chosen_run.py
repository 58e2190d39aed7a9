"""The line about another run ends with a command that continues the run of that name."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import pipeline

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.config.run_name import accept_run
from transformer_foundry.console.params_text import parse_params
from transformer_foundry.core.base.errors import DataError, ParameterError
from transformer_foundry.core.base.options import parse_options
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.models.source.read import read_export
from transformer_foundry.core.training.checkpointing.run_files import write_run_record
from transformer_foundry.hooks import KedroHooks
from transformer_foundry.hooks.preflight.chosen_run import remedy, require_run, run_line
from transformer_foundry.hooks.preflight.inputs import require_inputs
from transformer_foundry.hooks.preflight.start_from import ignored_weights
from transformer_foundry.hooks.run_context import make_run_contexts
from transformer_foundry.pipelines import training

ROOT = Path(__file__).parents[2]

SECTION_OF = {kind: name for name, kind in SECTIONS.items()}

CHANGES: dict[str, dict[str, Any]] = {
    "one value": {"training": {"learning_rate": 0.001}},
    "a preset": {"preset": "standard"},
    "a value to null and a text": {"training": {"ema_decay": 0.9, "optimizer": "sgd"}, "data": {"max_documents": 50}},
    "data": {"data": {"source": "{at}/other.txt"}},
    "model": {"model": {"source": str(ROOT / "data/01_raw/exports/bert")}, "run": {"name": "gpt"}},
    "fork": {"run": {"fork_from": "gpt"}},
}


def load(at: Path, sections: dict[str, Any]) -> FoundryConfigLoader:
    given: dict[str, Any] = {"data_dir": str(at / "data"), "data": {"source": str(at / "texts.txt")}}
    for name, section in sections.items():
        given[name] = {**given.get(name, {}), **section} if isinstance(section, dict) else section
    return FoundryConfigLoader(str(ROOT / "conf"), runtime_params=given, base_env="base", default_run_env="local")


def context_of(loader: FoundryConfigLoader) -> Any:
    parameters = loader["parameters"]
    return SimpleNamespace(
        parameters=parameters,
        runtime_params=loader.runtime_params,
        pipeline_names=("training",),
        env=None,
        conf_source="",
        data_dir=Path(parameters["data_dir"]),
        paths=RunPaths.under(parameters["data_dir"], "gpt"),
        trains=True,
        study=None,
        run_choice=loader.run_choice,
        is_main_process=True,
        options=lambda kind: parse_options(kind, parameters[SECTION_OF[kind]], SECTION_OF[kind]),
    )


def accept(at: Path, sections: dict[str, Any]) -> str:
    loader = load(at, sections)
    parameters = loader["parameters"]
    assert loader.run_choice is not None
    accept_run(loader.run_choice, parameters)
    (at / "data" / "06_models" / loader.run_choice.name / "checkpoints").mkdir(exist_ok=True)
    return loader.run_choice.name


@pytest.mark.parametrize("name", CHANGES)
def test_the_command_continues_the_run_of_that_name(name: str, tmp_path: Path) -> None:
    for file in ("texts.txt", "other.txt"):
        (tmp_path / file).write_text(f"{file}\n")
    sections = {
        section: {key: str(value).format(at=tmp_path) if section == "data" and key == "source" else value
                  for key, value in values.items()} if isinstance(values, dict) else values
        for section, values in CHANGES[name].items()
    }  # fmt: skip
    assert accept(tmp_path, {}) == "gpt"
    assert accept(tmp_path, sections) == "gpt-2"
    loader = load(tmp_path, sections)
    context = context_of(loader)
    assert loader.run_choice is not None
    command = shlex.split(remedy(context, loader.run_choice).partition(": ")[2])
    again = FoundryConfigLoader(
        str(ROOT / "conf"),
        runtime_params=parse_params(command[command.index("--params") + 1]),
        base_env="base",
        default_run_env="local",
    )
    assert again["parameters"]["run"]["name"] == "gpt"
    assert again.run_choice is not None
    assert not again.run_choice.is_new


OTHER = {"training": {"weight_decay": 0.07}}


@pytest.fixture
def another(tmp_path: Path) -> Iterator[FoundryConfigLoader]:
    """The configuration of a command that works on gpt-2, since gpt was started with other values."""
    pipelines.configure("transformer_foundry.pipeline_registry")
    (tmp_path / "texts.txt").write_text("text\n")
    for sections in ({}, OTHER):
        accept(tmp_path, sections)
    yield load(tmp_path, OTHER)
    pipelines.configure(None)


@pytest.mark.parametrize("save_version", [None, "2026-01-01T00.00.00.000Z"])
def test_the_catalog_of_a_notebook_says_which_run_it_is_of(
    another: FoundryConfigLoader, save_version: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hooks = KedroHooks([])
    another["parameters"]
    hooks.after_context_created(cast("Any", SimpleNamespace(config_loader=another, project_path=ROOT)))
    hooks.after_catalog_created(DataCatalog.from_config(another["catalog"]), save_version)
    said = [text for text in caplog.messages if text.startswith("The catalog is of the run gpt-2; gpt is another one:")]
    assert len(said) == (save_version is None)
    assert all("and is 0.07. To continue gpt: kedro run" in text for text in said)


def test_what_is_missing_of_another_run_is_refused_with_the_command_of_the_first(another: FoundryConfigLoader) -> None:
    catalog = DataCatalog.from_config(another["catalog"])
    evaluated = pipelines["training"].filter(node_names=["draw_errors"])
    (context,) = make_run_contexts(another, {}, evaluated, catalog)
    with pytest.raises(
        DataError, match=r"(?s)error_analysis.*run gpt-2; gpt is another one.*To continue gpt: "
    ) as caught:
        require_inputs(context)
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_has_changed_leaves_no_command_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("before\n")
    accept(tmp_path, {})
    (tmp_path / "texts.txt").write_text("after\n")
    loader = load(tmp_path, {})
    context = context_of(loader)
    assert loader.run_choice is not None
    assert remedy(context, loader.run_choice) == ""


def edited_model(at: Path, config: str = "") -> tuple[Any, Any]:
    """Return the context of a command whose model was edited after gpt had trained, and its choice of a run."""
    (at / "texts.txt").write_text("text\n")
    shutil.copytree(ROOT / "data/01_raw/exports/gpt", at / "gpt")
    sections = {"model": {"source": str(at / "gpt")}}
    accept(at, sections)
    run = at / "data" / "06_models" / "gpt"
    (run / "checkpoints" / "step-00000010").mkdir()
    (run / "checkpoints" / "step-00000010" / "manifest.json").touch()
    write_run_record(run, {"identity": {"config": read_export(str(at / "gpt")).sha256["config.json"]}})
    with (at / "gpt" / "model.py").open("a") as file:
        file.write("# edited\n")
    with (at / "gpt" / "config.json").open("a") as file:
        file.write(config)
    loader = load(at, sections)
    context = context_of(loader)
    return context, loader.run_choice


def report_kinds(at: Path, choice: Any, *kinds: str | None) -> None:
    for number, (identity, kind) in enumerate(zip(choice.changes["model.files"], kinds, strict=True)):
        folder = at / "data" / "08_reporting" / f"gpt-{number}"
        folder.mkdir(parents=True)
        (folder / "validation_report.json").write_text(json.dumps({"kind": kind, "model": {"identity": identity}}))


def test_an_edited_model_may_start_from_the_weights_of_the_run_only_where_it_trains(tmp_path: Path) -> None:
    context, choice = edited_model(tmp_path)
    assert "To start from its weights, if its shapes still fit: " in remedy(context, choice)
    context.trains = False
    assert remedy(context, choice) == ""


@pytest.mark.parametrize(
    ("kinds", "is_offered"),
    [
        (("decoder-only", "decoder-only"), True),
        (("decoder-only", "encoder-only"), False),
        (("decoder-only", None), False),
    ],
)
def test_only_a_model_of_the_same_kind_may_start_from_its_weights(
    tmp_path: Path, kinds: tuple[str | None, str | None], is_offered: bool
) -> None:
    context, choice = edited_model(tmp_path, config="\n")
    report_kinds(tmp_path, choice, *kinds)
    assert ("model.init_from=gpt" in remedy(context, choice)) == is_offered


def test_a_search_says_that_it_does_not_start_from_the_weights_that_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("text\n")
    context = context_of(load(tmp_path, {"model": {"init_from": "gpt"}}))
    context.study, context.trains = "study", False
    said = "The search trains from new weights. model.init_from=gpt: not used here, only by a training."
    assert ignored_weights(context) == said
    context.trains = True
    assert ignored_weights(context).endswith("model.init_from=gpt: only the training after it begins so.")
    assert ignored_weights(context_of(load(tmp_path, {}))) == ""


def test_a_run_that_is_continued_is_not_explained_as_another_one(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("text\n")
    accept(tmp_path, {})
    lines = []
    for _ in range(2):
        loader = load(tmp_path, OTHER)
        lines.append(run_line(context_of(loader)).partition(" To continue")[0])
        accept(tmp_path, OTHER)
    assert lines == [
        "Starts the run gpt-2; gpt is another one: training.weight_decay was 0.1 and is 0.07.",
        "Continues the run gpt-2, not gpt: training.weight_decay was 0.1 and is 0.07.",
    ]


@pytest.mark.parametrize("is_moved", [False, True])
def test_the_run_of_that_name_is_not_made_with_sections_that_do_not_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_moved: bool
) -> None:
    pipelines.configure("transformer_foundry.pipeline_registry")
    mine = pipeline(training.create_pipeline(), parameters={"params:training": "params:my_training"})
    monkeypatch.setitem(pipelines, "mine", mine)
    loader = load(tmp_path, {"my_training": {"max_steps": 3}})
    entries = loader["catalog"]
    if is_moved:
        entries["training_run"]["filepath"] = entries["previous_run"]["filepath"] = str(tmp_path / "mine")
    (context,) = make_run_contexts(loader, {}, mine, DataCatalog.from_config(entries))
    if is_moved:
        require_run(context)
        return
    with pytest.raises(ParameterError, match="run gpt with the parameters my_training, but training") as caught:
        require_run(context)
    assert len(str(caught.value).splitlines()) == 3
