"""The bytes of a safetensors file depend on its content only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from transformer_foundry.core.files.safetensors_header import sort_metadata

METADATA = {"format": "pt", "aliases": '{"hätte": "\\"b\\""}', "c": "3", "a": "1"}


def test_any_order_of_the_metadata_gives_the_same_bytes_and_the_same_content(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.int64)}
    written = set()
    for number in range(20):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path, metadata=dict(METADATA))
        sort_metadata(path)
        written.add(path.read_bytes())

    assert len(written) == 1
    assert all(torch.equal(value, tensors[name]) for name, value in load_file(path).items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == METADATA


def test_a_file_without_metadata_stays_as_it_is(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, path := tmp_path / "a.safetensors")
    before = path.read_bytes()
    sort_metadata(path)

    assert path.read_bytes() == before


def test_a_header_of_another_writer_is_refused(tmp_path: Path) -> None:
    header = b'{"__metadata__":{"b":"\xc3\xa4","a":"1"},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    sort_metadata(path)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"a": "1", "b": "ä"}

    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    sort_metadata(path)
    with pytest.raises(ValueError, match="Expecting"):
        path.write_bytes((1).to_bytes(8, "little") + b"{}") and sort_metadata(path)
