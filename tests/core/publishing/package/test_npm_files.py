"""What the page needs of others: checked by its sha256, fetched once, explained when it cannot be had."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.publishing.package import npm_files
from transformer_foundry.core.publishing.package.npm_files import Archive, page_scripts
from transformer_foundry.core.publishing.package.programs import add_programs

CONTENT = b"export const answer = 42;"
MANIFEST = {"formats": [{"format": "onnx", "file": "model.onnx", "status": "verified", "size_bytes": 1000}]}


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that packs one file and counts how often it was asked; the page needs that file alone."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    archive = Archive("@some/one", "1.2.3", "MIT", {"package/dist/one.mjs": ("one.mjs", digest)})
    monkeypatch.setattr(npm_files, "ARCHIVES", (archive,))
    folder = tmp_path / "bin"
    folder.mkdir()
    pack(folder / "one.tgz", CONTENT)
    (folder / "npm").write_text(f'#!/bin/sh\necho "$2" >> {folder}/asked\ncat {folder}/one.tgz > some-one.tgz\n')
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def pack(path: Path, content: bytes) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name in ("package/dist/one.mjs", "../../outside"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_files_are_fetched_once_and_nothing_else_is_unpacked(npm: Path, tmp_path: Path) -> None:
    cache = tmp_path / "a" / "b" / "cache"
    assert [path.read_bytes() for path in page_scripts(cache)] == [CONTENT]
    page_scripts(cache)
    assert (npm / "asked").read_text() == "@some/one@1.2.3\n"
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["one.mjs"]
    assert not list(tmp_path.rglob("outside"))


def test_a_damaged_file_of_the_cache_is_fetched_again(npm: Path, tmp_path: Path) -> None:
    (path,) = page_scripts(tmp_path / "cache")
    path.write_bytes(b"damaged")
    assert page_scripts(tmp_path / "cache")[0].read_bytes() == CONTENT


def test_another_file_than_the_one_that_was_tested_is_refused(npm: Path, tmp_path: Path) -> None:
    pack(npm / "one.tgz", b"stolen")
    with pytest.raises(
        DeploymentError, match=r"not the file that was tested[\s\S]*found " + hashlib.sha256(b"stolen").hexdigest()
    ):
        page_scripts(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.mjs"))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", "ENOTFOUND"),
        ("exit 0", "no reason given"),
        ("echo no archive > some-one.tgz", "is damaged"),
        (None, "npm is not installed"),
    ],
)
def test_a_package_without_npm_or_network_has_no_page_and_a_reason(
    npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str
) -> None:
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        (npm / "npm").write_text(f"#!/bin/sh\n{script}\n")
    folder = tmp_path / "package"
    folder.mkdir()
    parts = add_programs(folder, MANIFEST, cache=tmp_path / "cache")
    assert [part["status"] for part in parts] == ["made", "made", "left out"]
    assert message in parts[2]["reason"]
    assert "transformer_foundry.core.publishing.package.npm_files" in parts[2]["reason"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "Dockerfile",
        "inference.py",
        "requirements.txt",
        "server.py",
        "server_limits.py",
        "server_metrics.py",
        "server_openai.py",
        "server_pages.py",
        "text_encoding.py",
        "text_generation.py",
        "verify_files.py",
    ]


def test_parts_that_are_left_out_have_a_reason(npm: Path, tmp_path: Path) -> None:
    assert add_programs(tmp_path, MANIFEST, page=False)[2]["reason"] == "deployment.page is false"
    huge = {"formats": [MANIFEST["formats"][0] | {"size_bytes": 3 * 10**9}]}
    assert "3,000,000,000 bytes" in add_programs(tmp_path, huge)[2]["reason"]
    none = {"formats": [{"format": "onnx", "file": None, "status": "failed"}]}
    assert {part["reason"] for part in add_programs(tmp_path, none)} == {"there is no verified ONNX file"}
    assert not (npm / "asked").exists()
