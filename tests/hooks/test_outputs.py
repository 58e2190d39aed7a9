"""An entry of the catalog that does not fit what it keeps is refused before the first node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.figure
import pandas
import plotly.graph_objects
import pytest
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog

from tests.core.data.samples import prepare
from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.datasets.atomic_json import AtomicJSONDataset
from transformer_foundry.hooks.preflight.outputs import _KEEPERS, require_outputs
from transformer_foundry.hooks.run_context import make_run_contexts
from transformer_foundry.pipelines import comparison, data_engineering, deployment, training, tuning, validation

OURS = "transformer_foundry.datasets."
PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    pipelines.configure("transformer_foundry.pipeline_registry")
    yield
    pipelines.configure(None)


def ours(kind: str, path: Path, **more: object) -> dict[str, Any]:
    return {"type": OURS + kind, "filepath": str(path), **more}


def check(stage: Any, folder: Path, **changed: dict[str, Any]) -> None:
    entries = {
        "training_run": ours("TrainingRunDataset", folder / "run"),
        "previous_run": ours("TrainingRunDataset", folder / "run"),
        "study": ours("StudyDataset", folder / "study.db"),
        "previous_study": ours("StudyDataset", folder / "study.db"),
        "comparison_results": ours("ComparisonDataset", folder / "comparison.jsonl"),
        "previous_comparison_results": ours("ComparisonDataset", folder / "comparison.jsonl"),
        "model_registry": ours("RegistryDataset", folder / "registry"),
        "published_registry": ours("RegistryDataset", folder / "registry"),
        **changed,
    }
    config = {"parameters": {"data_dir": str(folder)}}
    context = make_run_contexts(config, {}, stage.create_pipeline(), DataCatalog.from_config(entries))[0]
    require_outputs(context)


@pytest.mark.parametrize("stage", [comparison, deployment, training, tuning, validation])
def test_entries_that_fit_go_ahead_and_so_do_results_in_memory(stage: Any, tmp_path: Path) -> None:
    check(stage, tmp_path)


MOVED = [
    (training, "training_run", "previous_run", "TrainingRunDataset"),
    (tuning, "study", "previous_study", "StudyDataset"),
    (comparison, "comparison_results", "previous_comparison_results", "ComparisonDataset"),
]


@pytest.mark.parametrize(("stage", "entry", "earlier", "kind"), MOVED)
def test_one_of_two_entries_of_one_thing_cannot_be_moved_alone(
    stage: Any, entry: str, earlier: str, kind: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=f"writes {entry} to .*elsewhere, but continues {earlier} of") as caught:
        check(stage, tmp_path, **{entry: ours(kind, tmp_path / "elsewhere")})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("entry", ["model_registry", "published_registry"])
def test_one_of_two_entries_of_the_registry_cannot_be_moved_alone(entry: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"uses published_registry in .*, but model_registry is in .*") as caught:
        check(deployment, tmp_path, **{entry: ours("RegistryDataset", tmp_path / "elsewhere")})
    assert len(str(caught.value).splitlines()) == 3


def test_a_search_in_another_database_than_the_one_it_continues_is_refused_without_a_password(tmp_path: Path) -> None:
    storage = "postgresql://ann:secret@host/db"
    with pytest.raises(ParameterError, match=r"postgresql://\[redacted\]@host/db") as caught:
        check(tuning, tmp_path, study=ours("StudyDataset", tmp_path / "study.db", storage=storage))
    assert "secret" not in str(caught.value)


WRONG = [
    (training, "training_run", {"type": "pickle.PickleDataset"}),
    (training, "training_run", {"type": "kedro_datasets.pickle.PickleDataset"}),
    (training, "training_run", {"type": OURS + "AtomicJSONDataset"}),
    (training, "loss_figure", {"type": "matplotlib.MatplotlibDataset"}),
    (training, "samples", {"type": "pandas.CSVDataset"}),
    (tuning, "study", {"type": "pickle.PickleDataset"}),
    (comparison, "comparison_figure", {"type": "json.JSONDataset"}),
    (deployment, "model_package", {"type": "pickle.PickleDataset"}),
    (validation, "validation_figure", {"type": OURS + "PlotlyFigureDataset"}),
    (validation, "validation_figure", {"type": "matplotlib.MatplotlibDataset"}),
    (data_engineering, "corpus", {"type": OURS + "AtomicJSONDataset"}),
    (data_engineering, "corpus", {"type": "pickle.PickleDataset"}),
    (data_engineering, "data_table", {"type": "json.JSONDataset"}),
    (tuning, "trials", {"type": "pandas.SQLQueryDataset"}),
    (comparison, "comparison_table", {"type": OURS + "AtomicJSONDataset"}),
]


@pytest.mark.parametrize(("stage", "entry", "config"), WRONG)
def test_a_type_that_cannot_keep_the_result_is_refused(
    stage: Any, entry: str, config: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=f"{entry} is of the type {config['type']} .*cannot (keep|load)") as caught:
        check(stage, tmp_path, **{entry: {**config, "filepath": str(tmp_path / "file")}})
    assert len(str(caught.value).splitlines()) == 3


def test_a_run_in_memory_would_be_lost_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="training_run is of the type MemoryDataset"):
        check(training, tmp_path, training_run={"type": "MemoryDataset"})


RIGHT = [
    (training, "loss_figure", {"type": "plotly.JSONDataset"}),
    (training, "loss_figure", {"type": "plotly.HTMLDataset"}),
    (training, "evaluation", {"type": "yaml.YAMLDataset"}),
    (tuning, "trials", {"type": "pandas.ParquetDataset"}),
    (training, "evaluation", {"type": OURS + "AtomicJSONDataset"}),
    (validation, "validation_figure", {"type": "pickle.PickleDataset"}),
]


@pytest.mark.parametrize(("stage", "entry", "config"), RIGHT)
def test_types_of_kedro_that_can_keep_the_result_go_ahead(
    stage: Any, entry: str, config: dict[str, Any], tmp_path: Path
) -> None:
    check(stage, tmp_path, **{entry: {**config, "filepath": str(tmp_path / "file")}})


def test_a_type_that_only_saves_is_refused_where_a_node_reads_the_entry(tmp_path: Path) -> None:
    config = {"validation_figure": {"type": "matplotlib.MatplotlibDataset", "filepath": str(tmp_path / "figure.png")}}
    with pytest.raises(ParameterError, match="check_model uses again what that type cannot load"):
        check(validation, tmp_path, **config)


@pytest.mark.parametrize("kind", ["json.JSONDataset", OURS + "AtomicJSONDataset"])
def test_versions_below_a_file_without_a_version_are_refused(kind: str, tmp_path: Path) -> None:
    config = {"type": kind, "filepath": str(tmp_path / "evaluation.json"), "versioned": True}
    check(training, tmp_path, evaluation=config)
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(ParameterError, match=r"'versioned: true' in .* is a file without a version") as caught:
        check(training, tmp_path, evaluation=config)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["deployment", "tuning", "comparison"])
def test_every_entry_of_the_project_fits(name: str, tmp_path: Path) -> None:
    loader = FoundryConfigLoader(
        str(PROJECT / "conf"),
        base_env="base",
        default_run_env="base",
        runtime_params={"data_dir": str(tmp_path)},
    )
    (context,) = make_run_contexts(loader, {}, pipelines[name], DataCatalog.from_config(loader["catalog"]))
    require_outputs(context)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One result of each type that a dataset of Kedro may keep."""
    splits, tokenizer, _ = prepare("causal_lm", tmp_path_factory.mktemp("tokens") / "tokens")
    return {
        "dict[str, Any]": {"step": 4, "validation": {"loss": 2.5, "shares": [0.1, None]}, "is_best": True},
        "Figure": plotly.graph_objects.Figure(plotly.graph_objects.Scatter(x=[1, 2], y=[3, 4])),
        "MatplotlibFigure": matplotlib.figure.Figure(figsize=(2, 1)),
        "DataFrame": pandas.DataFrame({"split": ["train"], "documents": [3]}),
        "TokenSplits": splits,
        "Tokenizer": tokenizer,
    }


NEEDING_MORE = (
    "redis.PickleDataset",
    *(
        f"pandas.{name}Dataset"
        for name in ("Excel", "XML", "HDF", "SQLTable", "GBQTable", "DeltaTable", "Generic", "Feather")
    ),
)
"""A server, a library that is not installed here, or other arguments than a path."""

KEPT = [(result, kind) for result, keeper in _KEEPERS.items() for kind in keeper.kedros if kind not in NEEDING_MORE]


@pytest.mark.parametrize(("result", "kind"), KEPT)
def test_a_type_of_kedro_that_is_accepted_loads_what_it_has_saved(
    result: str, kind: str, results: dict[str, Any], tmp_path: Path
) -> None:
    dataset = AbstractDataset.from_config("kept", {"type": kind, "filepath": str(tmp_path / "kept")})
    dataset.save(results[result])
    kept = dataset.load()
    assert type(kept) is type(results[result])
    read = {"TokenSplits": lambda it: it.fingerprint, "Tokenizer": lambda it: it.digest()}.get(result)
    if result == "DataFrame":
        read = lambda table: table["documents"].tolist()  # noqa: E731
    if read is not None:
        assert read(kept) == read(results[result])
    elif not result.startswith("Matplotlib"):
        assert kept == results[result]


def test_a_type_of_the_user_in_our_package_goes_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(f"{OURS}my_json")
    module.MyJSONDataset = type("MyJSONDataset", (AtomicJSONDataset,), {"__module__": module.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    check(training, tmp_path, evaluation=ours("my_json.MyJSONDataset", tmp_path / "evaluation.json"))
