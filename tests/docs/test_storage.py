"""The catalog entries of the page on storage can be used as they are written."""

from __future__ import annotations

import re
from typing import Any

import yaml
from kedro.io import DataCatalog

from tests.docs.pages import written

BLOCKS: list[dict[str, Any]] = [
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", written()["storage.md"], flags=re.DOTALL)
]


def test_the_entries_of_the_page_are_made_with_their_credentials() -> None:
    entries = {name: entry for block in BLOCKS for name, entry in block.items() if "type" in entry}
    credentials = {name: entry for block in BLOCKS for name, entry in block.items() if "type" not in entry}
    here = {
        # s3fs is no requirement of the tests; the file system in memory takes any argument.
        name: {**entry, "filepath": re.sub(r"\$\{.*\}", "gpt", entry["filepath"]).replace("s3://", "memory://")}
        for name, entry in entries.items()
    }
    catalog = DataCatalog.from_config(here, credentials)
    assert {name: type(catalog.get(name)).__name__ for name in here} == {
        "model_package": "PackageDataset",
        "tokenizer": "TokenizerDataset",
    }
    assert not catalog.exists("tokenizer")


def test_every_dataset_of_the_project_is_in_the_table() -> None:
    import transformer_foundry.datasets

    missing = [name for name in transformer_foundry.datasets.__all__ if f"`{name}`" not in written()["storage.md"]]
    assert missing == []
