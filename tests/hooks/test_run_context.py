"""A command has one context for each training run, with what belongs to it: found by types and data flow, not names."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.hooks import specs
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node, pipeline
from kedro.runner import AbstractRunner, SequentialRunner, ThreadRunner
from pluggy import PluginManager

from transformer_foundry.config.hook_options import DriveOptions
from transformer_foundry.console.command_line import run_command
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.hooks.run_context import RunContext, make_run_contexts
from transformer_foundry.hooks.run_context.sections import name_parameters, names_of_run, node_of
from transformer_foundry.hooks.summary import continues
from transformer_foundry.pipeline_registry import register_pipelines
from transformer_foundry.pipelines import data_engineering, deployment, training, validation

OURS = "transformer_foundry.datasets"
PARAMETERS = {"data_dir": "data", "run": {"name": "gpt", "preparation": "base"}, "drive": {"folder": "copy"}}


def run_at(path: str) -> dict[str, str]:
    return {"type": f"{OURS}.TrainingRunDataset", "filepath": path}


def json_at(path: str) -> dict[str, str]:
    return {"type": "json.JSONDataset", "filepath": path}


def contexts_of(
    entries: Mapping[str, Any], running: Pipeline, parameters: Mapping[str, Any] = PARAMETERS
) -> list[RunContext]:
    return make_run_contexts({"parameters": parameters}, {}, running, DataCatalog.from_config(dict(entries)))


def context_of(entries: Mapping[str, Any], *running: Any, parameters: Mapping[str, Any] = PARAMETERS) -> RunContext:
    """The only context of a pipeline of nodes that are given as inputs and outputs."""
    nodes = [node(lambda *_: None, *ends, name=f"node{n}") for n, ends in enumerate(running or ((None, "other"),))]
    (context,) = contexts_of(entries, pipeline(nodes), parameters)
    return context


def test_the_run_is_found_by_its_type() -> None:
    context = context_of({"my_training": run_at("elsewhere/run")}, (None, "my_training"))
    assert context.run is context.catalog["my_training"]
    assert context.trains
    assert context.paths.run == Path("elsewhere/run")


def test_a_second_run_in_the_catalog_that_the_pipeline_does_not_use_takes_over_nothing() -> None:
    entries = {"training_run": run_at("data/06_models/gpt"), "zz_baseline": run_at("baseline/run")}
    context = context_of(entries, (None, "training_run"))
    assert context.paths.run == Path("data/06_models/gpt")


def test_a_search_is_found_by_its_type() -> None:
    entries = {"my_search": {"type": f"{OURS}.StudyDataset", "filepath": "data/study.db"}}
    context = context_of(entries, (None, "my_search"))
    assert context.study is context.catalog["my_search"]
    assert context_of(entries, ("my_search", "trials")).study is None


def test_folders_are_those_of_the_catalog() -> None:
    entries = {
        "run": run_at("disk/run"),
        "package": {"type": f"{OURS}.PackageDataset", "filepath": "disk/package"},
        "search": {"type": f"{OURS}.StudyDataset", "filepath": "disk/search/study.db"},
        "tokens": {"type": f"{OURS}.TokenSplitsDataset", "filepath": "disk/gpt/tokens"},
        "quality": json_at("disk/reports/quality.json"),
        "verdict": json_at("disk/checks/verdict.json"),
    }
    paths = context_of(
        entries,
        (None, ["tokens", "verdict"]),
        (["tokens", "verdict"], "search"),
        (["tokens", "search"], "run"),
        ("run", ["quality", "package"]),
    ).paths
    assert (paths.run, paths.package) == (Path("disk/run"), Path("disk/package"))
    assert (paths.tuning, paths.model_input) == (Path("disk/search"), Path("disk/gpt"))
    assert (paths.reports, paths.shared_reports) == (Path("disk/reports"), Path("disk/checks"))


def test_reports_stay_in_the_usual_folder_while_one_of_them_does() -> None:
    entries = {
        "run": run_at("data/06_models/gpt"),
        "samples": json_at("data/08_reporting/gpt/samples.json"),
        "quality": json_at("elsewhere/quality.json"),
        "errors": json_at("elsewhere/errors.json"),
    }
    context = context_of(entries, (None, "run"), ("run", ["samples", "quality", "errors"]))
    assert context.paths.reports == Path("data/08_reporting/gpt")


def test_files_are_local_ones_inside_and_outside_of_the_data_folder_but_no_runs() -> None:
    entries = {
        "tokenizer": {"type": f"{OURS}.TokenizerDataset", "filepath": "data/tokenizer"},
        "training_run": run_at("data/run"),
        "elsewhere": json_at("/other/x.json"),
        "remote": json_at("s3://bucket/x.json"),
        "contract": {"type": "MemoryDataset"},
    }
    context = context_of(entries, (None, list(entries)))
    assert context.files == {"tokenizer": Path("data/tokenizer"), "elsewhere": Path("/other/x.json")}
    assert context.results == {"elsewhere", "remote"}


def test_a_pattern_of_the_catalog_defines_entries_too() -> None:
    entries = {"{side}.training_run": run_at("models/{side}"), "{side}.quality": json_at("quality/{side}.json")}
    context = context_of(entries, (None, "left.training_run"), ("left.training_run", "left.quality"))
    assert context.paths.run == Path("models/left")
    assert context.files == {"left.quality": Path("quality/left.json")}


def test_results_of_earlier_commands_are_read_through_the_catalog(tmp_path: Path) -> None:
    entries = {
        "run": run_at(str(tmp_path / "run")),
        "made": json_at(str(tmp_path / "moved" / "made.json")),
        "missing": json_at(str(tmp_path / "missing.json")),
        "torn": json_at(str(tmp_path / "torn.json")),
    }
    context = context_of(entries, ("run", ["made", "missing", "torn"]))
    context.catalog.save("made", {"step": 3})
    (tmp_path / "torn.json").write_text("{")
    assert context.load_results() == {"made": {"step": 3}}


def test_options_are_those_of_their_section() -> None:
    assert context_of({}).options(DriveOptions).folder == "copy"


def test_a_project_without_our_parameters_has_defaults() -> None:
    context = context_of({"my_run": run_at("models/tiny")}, (None, "my_run"), parameters={})
    assert (context.paths.name, context.paths.run) == ("tiny", Path("models/tiny"))
    assert context.paths.report == Path("models/tiny/report.html")
    assert context.options(DriveOptions).folder == "auto"


SIDES = ("left", "right")
TWO_RUNS = {
    "{side}.training_run": run_at("models/{side}"),
    "{side}.previous_run": run_at("models/{side}"),
    "{side}.evaluation": json_at("reports/{side}/evaluation.json"),
    "data_profile": json_at("reports/data_profile.json"),
}


def two_trainings(*sides: str) -> Pipeline:
    """Trainings with one preparation of data."""
    prepared = validation.create_pipeline() + data_engineering.create_pipeline()
    shared = {"model_export"} | prepared.all_outputs() & training.create_pipeline().inputs()
    return sum(
        (pipeline(training.create_pipeline(), namespace=side, inputs=shared) for side in sides or SIDES), prepared
    )


def names_of(context: RunContext) -> set[str]:
    return {node.name for node in context.nodes}


def test_what_is_cached_in_memory_is_where_its_dataset_keeps_it() -> None:
    splits = {"type": f"{OURS}.TokenSplitsDataset", "filepath": "elsewhere/tokens"}
    entries = {"training_run": run_at("models/gpt"), "token_splits": {"type": "CachedDataset", "dataset": splits}}
    whole = data_engineering.create_pipeline() + training.create_pipeline()
    (context,) = contexts_of(entries, whole)
    assert context.files["token_splits"] == Path("elsewhere/tokens")
    assert context.paths.model_input == Path("elsewhere")


def test_each_of_two_trainings_has_its_context() -> None:
    left, right = contexts_of(TWO_RUNS, two_trainings())
    assert (left.label, right.label) == ("left", "right")
    assert (left.run, right.run) == (left.catalog["left.training_run"], left.catalog["right.training_run"])
    assert (left.paths.run, right.paths.run) == (Path("models/left"), Path("models/right"))
    assert (left.paths.reports, right.paths.reports) == (Path("reports/left"), Path("reports/right"))
    assert left.files.keys() - right.files.keys() == {"left.evaluation"}


def test_what_is_made_before_two_trainings_belongs_to_both() -> None:
    left, right = contexts_of(TWO_RUNS, two_trainings())
    shared = names_of(left) & names_of(right)
    assert shared == {node.name for node in (validation.create_pipeline() + data_engineering.create_pipeline()).nodes}
    assert "data_profile" in left.files.keys() & right.files.keys()


def test_a_model_that_a_second_training_starts_from_keeps_its_own_results() -> None:
    entries = {name: run_at(f"models/{name}") for name in ("teacher", "student")}
    nodes = pipeline(
        [
            node(lambda *_: None, "text", "tokens", name="tokens"),
            node(lambda *_: None, "tokens", "teacher", name="train_teacher"),
            node(lambda *_: None, "teacher", "labels", name="label"),
            node(lambda *_: None, ["labels", "teacher"], "student", name="train_student"),
            node(lambda *_: None, "student", "quality", name="evaluate"),
        ]
    )
    student, teacher = contexts_of(entries, nodes)
    assert names_of(teacher) == {"tokens", "train_teacher", "label"}
    assert names_of(student) == {"train_student", "evaluate"}


def test_runs_whose_folders_have_the_same_name_get_different_names() -> None:
    entries = {"a": run_at("one/model"), "b": run_at("two/model")}
    first, second = contexts_of(entries, pipeline([node(lambda: None, None, ["a", "b"], name="train")]))
    assert (first.paths.name, second.paths.name) == ("one-model", "two-model")


@pytest.mark.parametrize("name", ["validation", "data_engineering", "deployment"])
def test_a_command_that_does_not_train_knows_the_folders_of_the_run(name: str) -> None:
    pipelines.configure("transformer_foundry.pipeline_registry")
    (context,) = contexts_of({"training_run": run_at("disk/gpt")}, register_pipelines()[name])
    assert context.paths.run == Path("disk/gpt")
    assert context.paths.name == "gpt"
    assert (context.run is None) == (name != "deployment")


def test_a_package_is_published_under_any_name_of_its_node() -> None:
    renamed = pipeline(deployment.create_pipeline(), namespace="left")
    assert contexts_of({}, renamed)[0].publishes
    assert not contexts_of({}, training.create_pipeline())[0].publishes


class Database(AbstractDataset[Any, Any]):
    """A user's dataset with an argument that no configuration can hold."""

    def __init__(self, lock: object) -> None:
        self._lock = lock

    def load(self) -> None:
        return None

    def save(self, data: Any) -> None:
        pass

    def _describe(self) -> dict[str, Any]:
        return {}


def test_a_dataset_that_no_configuration_can_hold_stops_no_run() -> None:
    catalog = DataCatalog({"table": Database(threading.Lock())})
    nodes = pipeline([node(lambda *_: None, "table", "other", name="read")])
    (context,) = make_run_contexts({"parameters": PARAMETERS}, {}, nodes, catalog)
    assert context.files == {}


def test_a_project_without_any_parameters_has_defaults(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    loader = OmegaConfigLoader(str(tmp_path), base_env="base", default_run_env="base")
    nodes = pipeline([node(lambda: None, None, "other", name="make")])
    (context,) = make_run_contexts(loader, {}, nodes, DataCatalog())
    assert context.paths.name == "run"


SECOND = pipeline(
    training.create_pipeline(),
    namespace="second",
    inputs={"model_export", "model_approval", "token_splits", "tokenizer", "best_parameters"},
    parameters={"params:model", "params:data", "params:validation"},
)
SECOND_ENTRIES = {"training_run": run_at("data/06_models/gpt"), "second.training_run": run_at("data/06_models/gpt-2nd")}


@pytest.fixture
def _with_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pipelines.configure("transformer_foundry.pipeline_registry")
    upstream = pipelines["validation"] + pipelines["data_engineering"]
    monkeypatch.setitem(pipelines, "second", upstream + SECOND)


@pytest.mark.usefixtures("_with_second")
def test_a_training_of_a_pipeline_of_its_own_takes_no_part_in_other_commands() -> None:
    (context,) = contexts_of(SECOND_ENTRIES, pipelines["validation"])
    assert (context.label, context.paths.run) == ("", Path("data/06_models/gpt"))
    (context,) = contexts_of(SECOND_ENTRIES, pipelines["second"])
    assert (context.label, context.paths.run) == ("", Path("data/06_models/gpt-2nd"))


@pytest.mark.usefixtures("_with_second")
def test_the_next_command_works_on_the_run_of_this_one() -> None:
    (first,) = contexts_of(SECOND_ENTRIES, pipelines["training"])
    (second,) = contexts_of(SECOND_ENTRIES, pipelines["second"])
    assert [continues(context, "deployment") for context in (first, second)] == [True, False]


def test_a_command_is_repeated_with_its_configuration(tmp_path: Path) -> None:
    for source, said in ((tmp_path / "conf", ""), (tmp_path / "other", f" --conf-source {tmp_path / 'other'}")):
        config = OmegaConfigLoader(str(source), base_env="base", default_run_env="local")
        config["parameters"] = PARAMETERS
        (context,) = make_run_contexts(config, {}, validation.create_pipeline(), DataCatalog(), tmp_path)
        assert run_command(["training"], None, {}, context.conf_source) == f"kedro run --pipelines training{said}"


MINE = pipeline(
    training.create_pipeline(),
    namespace="mine",
    inputs={"model_export", "model_approval", "token_splits", "tokenizer", "best_parameters"},
    parameters={"params:training": "params:my_training", "params:model": "params:model", "params:data": "params:texts"},
)
RENAMED = PARAMETERS | {"my_training": {"max_steps": 7}, "texts": {"seed": 3}, "training": {"max_steps": 9}}


def test_hooks_follow_the_sections_that_nodes_give_to_their_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    pipelines.configure("transformer_foundry.pipeline_registry")
    upstream = pipelines["validation"] + pipelines["data_engineering"]
    entries = {"training_run": run_at("models/gpt"), "mine.training_run": run_at("models/mine")}
    monkeypatch.setitem(pipelines, "mine", upstream + MINE)
    for running, steps, seed in ((pipelines["mine"], 7, 3), (MINE, 7, 3), (pipelines["training"], 9, 0)):
        (context,) = contexts_of(entries, running, RENAMED)
        assert (context.options(TrainingOptions).max_steps, context.options(DataOptions).seed) == (steps, seed)
        assert not {"my_training", "texts"} & context.parameters.keys()


@pytest.mark.parametrize("key", ["training", "my_training"])
def test_two_pipelines_that_write_one_entry_have_the_sections_of_the_one_that_runs(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    pipelines.configure("transformer_foundry.pipeline_registry")
    own = pipeline(training.create_pipeline(), parameters={"params:training": f"params:{key}"})
    monkeypatch.setitem(pipelines, "other", own)
    (context,) = contexts_of({"training_run": run_at("models/gpt")}, own, RENAMED)
    assert context.options(TrainingOptions).max_steps == RENAMED[key]["max_steps"]
    error = ParameterError("training.max_steps is 7.")
    name_parameters(error, context.names)
    assert str(error) == f"{key}.max_steps is 7."


def _refuse(_training: Any) -> Iterator[Any]:
    yield from ()
    raise ParameterError("training.seed is 1.", "", "Set training.seed=0; see model.py.")


@pytest.mark.parametrize("runner", [SequentialRunner(), ThreadRunner()])
def test_an_error_of_a_node_that_yields_names_the_parameter_as_the_node_reads_it(runner: AbstractRunner) -> None:
    inner = Pipeline([node(_refuse, "params:training", "run", name="train")])
    both = pipeline(inner, namespace="first") + pipeline(inner, namespace="second")
    plugins = PluginManager("kedro")
    for spec in (specs.NodeSpecs, specs.DatasetSpecs):
        plugins.add_hookspecs(spec)
    given = {"params:first.training": MemoryDataset({}), "params:second.training": MemoryDataset({})}
    with pytest.raises(ParameterError) as caught:
        runner.run(both.filter(node_names=["second.train"]), DataCatalog(given), plugins)
    failed = node_of(caught.value)
    assert failed is not None
    name_parameters(caught.value, names_of_run([failed]))
    assert str(caught.value) == "second.training.seed is 1.\nSet second.training.seed=0; see model.py."
