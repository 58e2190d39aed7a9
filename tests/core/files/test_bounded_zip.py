"""Zip files made to exhaust the machine are refused before they are unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from tests.faults.limits import limited
from transformer_foundry.core.base.errors import DataError, ModelError
from transformer_foundry.core.data import read_corpus
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.files.bounded_zip import BoundedReader, open_zip
from transformer_foundry.core.models import read_export


def write_zip(path: Path, method: int, mib: int = 256) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        with archive.open("model.py", "w") as file:
            for _ in range(mib):
                file.write(bytes(2**20))
        archive.writestr("config.json", "{}")
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_unpack_in_one_piece_are_refused(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "a.zip", method, mib=64)
    with pytest.raises(ModelError, match=f"compressed with method {method}"), limited(memory_mib=32):
        read_export(path, cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match=f"compressed with method {method}"), limited(memory_mib=32):
        read_corpus(DataOptions(source=str(path)), "causal_lm", None)


def test_a_deflated_member_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="more than 10 MiB unpacked"), limited(memory_mib=64):
        read_export(path, cache_dir=tmp_path / "cache")


def test_a_long_list_of_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    directory = bytes(8 * 2**20)
    path.write_bytes(directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0))
    with pytest.raises(zipfile.BadZipFile, match="more than 1,000 members"), limited(memory_mib=64):
        open_zip(path, 1000)


def test_a_stated_size_does_not_hide_behind_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.py", "")
        archive.comment = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 2**30, 0, 0)
    with pytest.raises(zipfile.BadZipFile, match="more than 1,000 members"):
        open_zip(path, 1000)


def test_a_part_is_read_up_to_the_limit_and_counted_anew_after_a_restart() -> None:
    reader = BoundedReader(io.BytesIO(bytes(30)), 10)
    assert len(reader.read(10)) == 10
    reader.restart()
    assert len(reader.read(10)) == 10
    with pytest.raises(ValueError, match="more than"):
        reader.read()
