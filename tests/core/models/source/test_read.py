"""Folders and zip files are read without running or trusting their content."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.models.samples import CONFIG, write_export
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import read_export

CODE = "raise RuntimeError('this must not run')\n"


def zip_bytes(members: dict[str, bytes], **attributes: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = attributes.get("mode", 0o644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()


GOOD = {"model.py": CODE.encode(), "config.json": json.dumps(CONFIG).encode()}


@pytest.fixture
def read_zip(tmp_path: Path):
    """Write a zip file with these members and read it."""

    def read(members: dict[str, bytes] | bytes, **attributes: int):
        path = tmp_path / "export.zip"
        path.write_bytes(members if isinstance(members, bytes) else zip_bytes(members, **attributes))
        return read_export(path, cache_dir=tmp_path / "cache")

    return read


class TestFolders:
    @pytest.mark.parametrize(
        ("first", "encoding"),
        [
            ("# coding: unicode_escape\n# \\x0aimport os\n", "unicode_escape"),
            ("# coding: punycode\nx-" + "b" * 300_000, "punycode"),
            ("#!/usr/bin/python\r# -*- coding=utf-7 -*-\r# +AAo-import os\r", "utf-7"),
            ("\ufeff# vim: set fileencoding=latin-1 :\ns = 'é'\n", "latin-1"),
            ("# coding: rot13\n", "rot13, not UTF-8"),
            ("# coding: nosuch\n", "nosuch, which Python does not know"),
        ],
    )
    @pytest.mark.parametrize("name", ["model.py", "layers.py"])
    def test_code_that_is_other_code_in_its_declared_encoding_is_refused(self, tmp_path, name, first, encoding) -> None:
        write_export(tmp_path, "import layers\n")
        (tmp_path / "layers.py").write_text("width = 1\n")
        (tmp_path / name).write_bytes(f"{first}import layers\n".encode())
        with pytest.raises(ModelError, match=re.escape(f"{name} declares the encoding {encoding}")):
            read_export(tmp_path)

    @pytest.mark.parametrize(
        "first",
        [
            "# coding: latin-1\nx = 1\n",
            "# -*- coding: UTF-8 -*-\nx = 'é'\n",
            "x = 'coding: koi8-r'",
            "import torch\n# positional encoding: sinusoidal\n",
            '"""A model.\n# coding: rot13\n"""\n',
        ],
    )
    def test_a_declared_encoding_in_which_the_code_is_the_same_is_read(self, tmp_path, first) -> None:
        assert read_export(write_export(tmp_path, first)).model_code == first

    def test_no_model_has_the_digest_of_another_one_with_modules(self, tmp_path) -> None:
        write_export(tmp_path / "a", "import layers\n")
        (tmp_path / "a/layers.py").write_text("width = 1\n")
        export = read_export(tmp_path / "a")
        lines = "".join(f"{name}:{export.sha256[name]}\n" for name in ("model.py", "layers.py"))
        assert export.code_digest != hashlib.sha256(lines.encode()).hexdigest()

    def test_a_folder_is_read_with_the_digests_of_its_bytes(self, tmp_path) -> None:
        export = read_export(write_export(tmp_path, CODE))
        assert (export.folder, export.model_code, export.config) == (tmp_path, CODE, CONFIG)
        assert export.sha256 == {
            name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("model.py", "config.json")
        }
        assert export.revision is None

    def test_the_identity_depends_on_both_files(self, tmp_path) -> None:
        first = read_export(write_export(tmp_path / "a", CODE)).identity
        assert read_export(write_export(tmp_path / "b", CODE)).identity == first
        assert read_export(write_export(tmp_path / "b", CODE + "#")).identity != first
        assert read_export(write_export(tmp_path / "b", CODE, {**CONFIG, "n_layer": 3})).identity != first

    @pytest.mark.parametrize(
        ("config", "name"), [({"model_name": "Net"}, "Net"), ({}, "folder"), ({"model_name": 3}, "folder")]
    )
    def test_the_name_is_that_of_the_model_or_the_folder(self, tmp_path, config, name) -> None:
        assert read_export(write_export(tmp_path / "folder", CODE, config)).name == name

    def test_the_path_of_the_code_selects_its_folder(self, tmp_path) -> None:
        assert read_export(write_export(tmp_path, CODE) / "model.py").folder == tmp_path

    def test_the_export_in_a_package_is_the_original(self, tmp_path) -> None:
        own = read_export(write_export(tmp_path / "own", CODE))
        package = write_export(tmp_path / "package", CODE, {"model_type": "foundry"})
        shutil.copy(own.folder / "config.json", package / "export_config.json")
        for source in (package, package / "model.py"):
            read = read_export(source, cache_dir=tmp_path / "cache")
            assert (read.identity, read.config, read.is_local) == (own.identity, CONFIG, True)

    def test_a_byte_order_mark_is_removed(self, tmp_path) -> None:
        write_export(tmp_path, CODE)
        for name in ("model.py", "config.json"):
            (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
        assert read_export(tmp_path).model_code == CODE

    @pytest.mark.parametrize("name", ["model.py", "config.json"])
    def test_a_missing_file_is_named_with_the_existing_ones(self, tmp_path, name) -> None:
        (write_export(tmp_path, CODE) / name).rename(tmp_path / "other.txt")
        with pytest.raises(ModelError, match=f"has no {name}") as caught:
            read_export(tmp_path)
        assert "other.txt" in str(caught.value)

    @pytest.mark.parametrize("source", ["nowhere", "", "../../nowhere", "~nobody/x", "a" * 5000, "with\0nul"])
    def test_a_missing_source_is_refused(self, source) -> None:
        with pytest.raises(ModelError, match="There is no export at"):
            read_export(source)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[1]",
            "3",
            "{",
            "{'a': 1}",
            '{"a": NaN}',
            '{"a": Infinity}',
            '{"a": 1e999}',
            '{"a": "lone surrogate: \\ud800"}',
            '{"a": ' + "[" * 900 + "]" * 900 + "}",
            "<html></html>",
            '{"a":' * 50_000,
            '{"a": ' + "9" * 5000 + "}",
        ],
    )
    def test_a_bad_configuration_is_refused(self, tmp_path, text) -> None:
        (write_export(tmp_path, CODE) / "config.json").write_text(text)
        with pytest.raises(ModelError, match=r"config\.json cannot be read") as caught:
            read_export(tmp_path)
        assert len(str(caught.value)) < 600

    @pytest.mark.parametrize("name", ["model.py", "config.json"])
    def test_text_in_another_encoding_is_named_with_its_line(self, tmp_path, name) -> None:
        (write_export(tmp_path, CODE) / name).write_bytes(b"\n\n# caf\xe9\n")
        with pytest.raises(ModelError, match=f"{name} line 3 is not UTF-8 text: byte 0xe9"):
            read_export(tmp_path)

    def test_a_folder_without_permission_is_reported(self) -> None:
        user, nobody = os.geteuid(), 65534
        # Not below tmp_path, which only its owner can read. Root can read everything, so it becomes another user.
        with tempfile.TemporaryDirectory() as parent:
            os.chmod(parent, 0o755)
            folder = write_export(Path(parent) / "closed", CODE)
            folder.chmod(0)
            os.seteuid(nobody if user == 0 else user)
            try:
                with pytest.raises(ModelError, match="cannot be read: Permission denied"):
                    read_export(folder)
            finally:
                os.seteuid(user)
                folder.chmod(0o700)

    def test_a_huge_file_is_not_read(self, tmp_path) -> None:
        os.truncate(write_export(tmp_path, CODE) / "model.py", 11 * 2**20)
        with pytest.raises(ModelError, match="11 MiB"):
            read_export(tmp_path)

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.dictionaries(
            st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.lists(st.text(max_size=5)), max_size=4
        )
    )
    def test_a_configuration_is_read_as_it_was_written(self, tmp_path, config) -> None:
        assert read_export(write_export(tmp_path, CODE, config)).config == config

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.binary(max_size=80))
    def test_random_bytes_do_not_break_the_reader(self, tmp_path, data) -> None:
        (write_export(tmp_path, CODE) / "config.json").write_bytes(data)
        with contextlib.suppress(ModelError):
            assert isinstance(read_export(tmp_path).config, dict)


class TestArchives:
    @pytest.mark.parametrize("folder", ["", "net/", "a/b/"])
    def test_the_two_files_are_found_at_any_depth(self, read_zip, folder) -> None:
        export = read_zip({f"{folder}{name}": data for name, data in GOOD.items()} | {"README.md": b"x"})
        assert (export.model_code, export.config) == (CODE, CONFIG)
        assert sorted(path.name for path in export.folder.iterdir()) == ["config.json", "model.py", "sha256.json"]

    def test_the_topmost_folder_with_both_files_is_used(self, read_zip) -> None:
        other = {"a/b/model.py": b"# other\n", "a/b/config.json": b"{}", "model.py": b"# alone\n"}
        resources = {"__MACOSX/model.py": b"\0", "__MACOSX/config.json": b"\0"}
        assert read_zip({**other, **resources, **{f"z/{name}": data for name, data in GOOD.items()}}).model_code == CODE

    def test_reading_twice_gives_the_same_export(self, read_zip) -> None:
        first, second = read_zip(GOOD), read_zip(GOOD)
        assert (first.identity, first.folder) == (second.identity, second.folder)

    @pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "a/../../evil", "C:/evil", "..\\evil"])
    def test_a_member_outside_the_archive_is_refused(self, read_zip, tmp_path, name) -> None:
        with pytest.raises(ModelError, match="is outside the archive"):
            read_zip({**GOOD, name: b"evil"})
        assert not list(tmp_path.rglob("*evil*"))

    def test_a_link_is_refused(self, read_zip) -> None:
        with pytest.raises(ModelError, match="is a link"):
            read_zip(GOOD, mode=stat.S_IFLNK | 0o777)

    def test_a_bomb_is_refused(self, read_zip) -> None:
        with pytest.raises(ModelError, match="more than 10 MiB unpacked"):
            read_zip({**GOOD, "model.py": bytes(50 * 2**20)})

    def test_too_many_members_are_refused(self, read_zip) -> None:
        with pytest.raises(ModelError, match="1,003 members"):
            read_zip({**GOOD, **{f"{number}.txt": b"" for number in range(1001)}})

    def test_an_archive_without_an_export_is_described(self, read_zip) -> None:
        with pytest.raises(ModelError, match=r"a/model\.py, b/config\.json"):
            read_zip({"a/model.py": b"", "b/config.json": b""})

    @pytest.mark.parametrize("data", [b"", b"PK", b"no zip file", zip_bytes(GOOD)[:-30], zip_bytes(GOOD)[20:]])
    def test_an_invalid_zip_file_is_refused(self, read_zip, data) -> None:
        with pytest.raises(ModelError, match="cannot be read as a zip file"):
            read_zip(data)

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, len(zip_bytes(GOOD)) - 1), st.integers(1, 255))
    def test_damage_does_not_break_the_reader(self, read_zip, position, difference) -> None:
        data = bytearray(zip_bytes(GOOD))
        data[position] ^= difference
        with contextlib.suppress(ModelError):
            assert read_zip(bytes(data)).model_code == CODE


def test_an_unwritable_cache_is_explained(tmp_path) -> None:
    (tmp_path / "export.zip").write_bytes(zip_bytes(GOOD))
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ModelError, match="cannot be written to the cache"):
        read_export(tmp_path / "export.zip", cache_dir=tmp_path / "cache")
