"""An error of Kedro about the catalog names the place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kedro.io import DataCatalog, DatasetError
from kedro.io.core import parse_dataset_definition

from transformer_foundry.cli.readable import with_place
from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.console.expected_errors import expected_error
from transformer_foundry.core.base.errors import ParameterError


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("type: transformer_foundry.datasets.AtomicJSONDatase", "Did you mean 'AtomicJSONDataset'?"),
        ("type: json.JSONDataset, filepat: x", "unexpected keyword argument 'filepat'"),
        ("filepath: x", "'type' is missing"),
    ],
)
def test_an_entry_that_kedro_cannot_make_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, said: str
) -> None:
    for env in ("base", "local"):
        (tmp_path / env).mkdir()
        (tmp_path / env / "catalog.yml").write_text(f"# {env}\nresult: {{{entry}}}\n")
    monkeypatch.setattr(FoundryConfigLoader, "latest_source", tmp_path)
    config = yaml.safe_load((tmp_path / "local" / "catalog.yml").read_text())
    with pytest.raises(DatasetError) as caught:
        DataCatalog.from_config(config).get("result")
    found = expected_error(caught.value)
    assert found is not None
    error = with_place(found)
    assert f"The entry result of the catalog ({tmp_path}/local/catalog.yml, line 2) cannot be used" in str(error)
    assert said in str(error)


@pytest.fixture
def loader(tmp_path: Path) -> FoundryConfigLoader:
    """Configuration with an entry in conf/base/catalog/results.yml."""
    (tmp_path / "base" / "catalog").mkdir(parents=True)
    (tmp_path / "local").mkdir()
    return FoundryConfigLoader(tmp_path, base_env="base", default_run_env="local")


@pytest.mark.parametrize("entry", ["credentials: devv", "dataset: {type: json.JSONDataset, credentials: devv}"])
def test_missing_credentials_are_refused_with_the_entry_and_its_file(
    loader: FoundryConfigLoader, tmp_path: Path, entry: str
) -> None:
    (tmp_path / "base" / "catalog" / "results.yml").write_text(f"result:\n  {entry}\n")
    (tmp_path / "local" / "credentials.yml").write_text("dev: {key: a}\n")
    with pytest.raises(ParameterError, match=r"entry result .*results.yml, line 1\) has credentials: devv.* 'dev'\?"):
        loader["catalog"]


def test_a_variable_that_is_not_set_is_refused_with_its_key_and_file(
    loader: FoundryConfigLoader, tmp_path: Path
) -> None:
    (tmp_path / "local" / "credentials.yml").write_text('dev: {key: "${oc.env:NO_SUCH_KEY}"}\n')
    with pytest.raises(
        ParameterError, match=r"^dev(\.key)? of the credentials \(.*credentials.yml, line 1\).*NO_SUCH_KEY"
    ):
        loader["credentials"]


def test_an_entry_that_kedro_does_not_name_is_found_by_its_type(loader: FoundryConfigLoader, tmp_path: Path) -> None:
    (tmp_path / "base" / "catalog" / "results.yml").write_text("result:\n  type: json.JSONDatase\n  filepath: x\n")
    with pytest.raises(DatasetError) as caught:
        parse_dataset_definition(loader["catalog"]["result"])
    found = expected_error(caught.value)
    assert found is not None
    assert "The entry result of the catalog" in str(with_place(found))
