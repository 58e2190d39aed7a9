"""An entry of the catalog whose content the parameters name must hold what they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, pipeline

from tests.core.data.samples import prepare
from transformer_foundry.core.base.errors import FoundryError, ParameterError
from transformer_foundry.datasets import ModelExportDataset, TokenSplitsDataset
from transformer_foundry.hooks.preflight.sources import require_sources
from transformer_foundry.hooks.run_context import make_run_contexts
from transformer_foundry.pipelines import data_engineering, training, validation

EXPORTS = Path("data/01_raw/exports")
GIST = "0123456789abcdef0123456789abcdef"
REVISION = "a" * 40


def check(pipeline: Pipeline, entries: dict[str, Any], **sections: Any) -> None:
    parameters = {"data_dir": "nowhere", "run": {"name": "gpt"}, **sections}
    (context,) = make_run_contexts({"parameters": parameters}, {}, pipeline, DataCatalog(entries))
    require_sources(context)


def export(folder: Path, source: str, **more: Any) -> ModelExportDataset:
    return ModelExportDataset(source=source, cache_dir=str(folder), **more)


def test_an_entry_that_reads_another_model_than_the_parameters_name_is_refused(tmp_path: Path) -> None:
    entries = {"model_export": export(tmp_path, str(EXPORTS / "bert"))}
    for ours in (validation.create_pipeline(), training.create_pipeline()):
        with pytest.raises(ParameterError, match=r"reads .*/bert, but model\.source is .*/gpt") as caught:
            check(ours, entries, model={"source": str(EXPORTS / "gpt")})
        assert "Set model.source=data/01_raw/exports/bert" in caught.value.remedy


def test_another_revision_is_another_model(tmp_path: Path) -> None:
    entries = {"model_export": export(tmp_path, GIST, revision=REVISION)}
    with pytest.raises(ParameterError, match=r"reads a{40}, but model\.revision is None"):
        check(validation.create_pipeline(), entries, model={"source": GIST})
    check(validation.create_pipeline(), entries, model={"source": f"https://gist.github.com/me/{GIST}/{REVISION}"})


@pytest.mark.parametrize(
    "source", ["data/01_raw/exports/gpt/", "data/../data/01_raw/exports/gpt", str(EXPORTS.absolute() / "gpt")]
)
def test_two_ways_to_write_one_source_are_one_model(tmp_path: Path, source: str) -> None:
    entries = {"model_export": export(tmp_path, source)}
    check(validation.create_pipeline(), entries, model={"source": str(EXPORTS / "gpt")})


def test_an_entry_with_a_namespace_or_without_a_source_among_the_parameters_may_read_any_model(tmp_path: Path) -> None:
    bert = export(tmp_path, str(EXPORTS / "bert"))
    named = pipeline(validation.create_pipeline(), namespace="mine", parameters={"params:model", "params:validation"})
    check(named, {"mine.model_export": bert}, model={"source": str(EXPORTS / "gpt")})
    check(validation.create_pipeline(), {"model_export": bert}, model={})


def test_tokens_of_other_data_at_a_place_of_the_users_own_are_refused_unless_they_are_made_here(tmp_path: Path) -> None:
    entries = {"token_splits": TokenSplitsDataset(filepath=str(tmp_path / "tokens"))}
    prepare("causal_lm", tmp_path / "tokens")
    other = {"source": str(tmp_path / "other.csv")}
    with pytest.raises(ParameterError, match=r"token_splits .* holds tokens of .*, but data\.source is"):
        check(training.create_pipeline(), entries, data=other)
    check(training.create_pipeline(), entries, data={})
    with pytest.raises(FoundryError) as caught:  # there is no such file
        check(data_engineering.create_pipeline() + training.create_pipeline(), entries, data=other)
    assert "holds tokens" not in str(caught.value)
