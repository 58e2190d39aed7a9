"""What the outputs of a node hold from an earlier command is given to it, wherever the catalog keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node, pipeline
from kedro_datasets.json import JSONDataset
from kedro_datasets.yaml import YAMLDataset

from transformer_foundry.core.files.provenance import with_origin
from transformer_foundry.datasets import AtomicJSONDataset
from transformer_foundry.hooks.kedro_hooks.earlier_outputs import supply_earlier
from transformer_foundry.hooks.kedro_hooks.free_inputs import complete_inputs
from transformer_foundry.hooks.run_context import earlier_entries, entry_of
from transformer_foundry.pipelines import training, validation


def evaluation(nodes: Pipeline) -> Any:
    return next(item for item in nodes.nodes if item.name.endswith("evaluate_model"))


@pytest.mark.parametrize("kind", [AtomicJSONDataset, JSONDataset])
def test_a_node_gets_what_its_outputs_hold_under_any_name_and_at_any_place(
    tmp_path: Path, kind: type[AbstractDataset[Any, Any]]
) -> None:
    mine = pipeline(training.create_pipeline(), namespace="mine", outputs={"evaluation": "quality"})
    catalog = DataCatalog({name: kind(filepath=str(tmp_path / name)) for name in ("quality", "mine.samples")})  # type: ignore[call-arg]
    catalog["quality"].save({"step": 3})
    (tmp_path / "mine.samples").write_text("{")
    found: list[object] = []
    given = supply_earlier(evaluation(mine), catalog, found.append)
    assert given is not None
    assert list(given["mine.earlier_results"]) == [{"step": 3}, None]
    assert found == [{"step": 3}]


@pytest.mark.parametrize("kind", [AtomicJSONDataset, JSONDataset, YAMLDataset])
def test_a_result_that_has_changed_since_it_was_written_is_none_and_said(
    tmp_path: Path, kind: type[AbstractDataset[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = tmp_path / "quality"
    catalog = DataCatalog({"evaluation": kind(filepath=str(file)), "samples": kind(filepath=str(tmp_path / "samples"))})  # type: ignore[call-arg]
    kept = with_origin({"step": 3, "loss": 4.636}, {"step": 3})
    catalog["evaluation"].save(kept)
    given = supply_earlier(evaluation(training.create_pipeline()), catalog, lambda _: None)
    assert given is not None
    assert given["earlier_results"][0] == kept
    file.write_text(file.read_text().replace("4.636", "2.636"))
    assert given["earlier_results"][0] is None
    assert "evaluation of an earlier command has changed since it was written" in caplog.text


def test_what_is_kept_in_memory_only_or_in_no_entry_is_nothing() -> None:
    given = supply_earlier(evaluation(training.create_pipeline()), DataCatalog({"evaluation": MemoryDataset()}), print)
    assert given is not None
    assert list(given["earlier_results"]) == [None, None]


def test_nothing_is_read_before_a_node_asks(tmp_path: Path) -> None:
    catalog = DataCatalog({"evaluation": AtomicJSONDataset(filepath=str(tmp_path / "evaluation.json"))})
    catalog["evaluation"].save({})
    assert supply_earlier(evaluation(training.create_pipeline()), catalog, pytest.fail)


def test_a_pattern_of_the_catalog_does_not_take_the_input_for_a_file(tmp_path: Path) -> None:
    mine = pipeline(training.create_pipeline(), namespace="mine", parameters=set(), inputs=set())
    pattern = {"type": "transformer_foundry.datasets.AtomicJSONDataset", "filepath": str(tmp_path / "{name}.json")}
    catalog = DataCatalog.from_config({"mine.{name}": pattern})
    for parameters in (name for name in mine.inputs() if name.startswith("params:")):
        catalog[parameters] = MemoryDataset({})
    complete_inputs(mine, catalog)
    assert catalog.load("mine.earlier_results") is None


def test_only_nodes_of_this_project_get_them() -> None:
    own = node(lambda earlier_results: earlier_results, "earlier_results", "y", name="own")
    assert entry_of(own, "earlier_results") is None
    assert supply_earlier(own, DataCatalog(), print) is None


def test_validation_gets_the_tokens_of_an_earlier_command_and_drive_restores_what_is_given(tmp_path: Path) -> None:
    mine = pipeline(validation.create_pipeline(), namespace="mine")
    check = next(item for item in mine.nodes if item.name == "mine.check_model")
    catalog = DataCatalog({"mine.token_splits": AtomicJSONDataset(filepath=str(tmp_path / "tokens.json"))})
    catalog["mine.token_splits"].save({"tokens": 3})
    given = supply_earlier(check, catalog, lambda _: None)
    assert given is not None
    assert given["mine.previous_splits"] == {"tokens": 3}
    assert earlier_entries(check) == {"mine.validation_report", "mine.validation_figure", "mine.token_splits"}
