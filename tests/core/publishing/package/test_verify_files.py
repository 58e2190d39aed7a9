"""The files of a package are compared with their digests, before anything in them is used."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import marshal
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from transformer_foundry.core.publishing.package import programs
from transformer_foundry.core.publishing.package.templates import verify_files

TEMPLATES = Path(programs.__file__).parent / "templates"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.onnx").write_bytes(b"weights")
    files = {"a.onnx": {"sha256": hashlib.sha256(b"weights").hexdigest()}}
    (package / "manifest.json").write_text(json.dumps({"files": files}))
    return package


def verify(folder: Path, *names: str) -> None:
    verify_files.verify(folder, verify_files.read_manifest(folder), names or ["a.onnx"])


def test_an_unchanged_file_is_accepted(folder: Path) -> None:
    verify(folder)


def test_the_program_checks_the_files_in_folders_too(folder: Path) -> None:
    files = {}
    program = (TEMPLATES / "verify_files.py").read_bytes()
    for name, content in (("a.onnx", b"{}"), ("native/config.json", b"{}"), ("verify_files.py", program)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        files[name] = {"sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    command = [sys.executable, str(folder / "verify_files.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3 files are as they were published.\n")
    (folder / "native" / "config.json").write_bytes(b"[]")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "native/config.json" in done.stderr
    assert "is damaged" in done.stderr


@pytest.mark.parametrize("name", ["native/../../x", "/etc/passwd", "native//x", "native/.x", "a/b/c/d/e", "native/"])
def test_a_path_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    (folder / "manifest.json").write_text(json.dumps({"files": {name: {"sha256": "0" * 64}}}))
    with pytest.raises(verify_files.PackageError, match="no plain file name"):
        verify(folder, name)


@pytest.mark.parametrize("large", [0, 2**40])
def test_a_changed_file_is_refused_in_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr(verify_files, "LARGE_BYTES", large)
    verify(folder)
    (folder / "a.onnx").write_bytes(b"Weights")
    with pytest.raises(verify_files.PackageError, match=r"a\.onnx in .* is damaged") as caught:
        verify(folder)
    assert "\n" not in str(caught.value)


def test_a_large_file_is_read_once_until_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_files, "LARGE_BYTES", 1)
    verify(folder)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it was read again"))
    verify(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", '{"files": []}', '{"files": {"a.onnx": 3}}', "[" * 9999])
def test_a_damaged_manifest_is_refused_in_one_sentence(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(verify_files.PackageError, match=r"manifest\.json"):
        verify(folder)


@pytest.mark.parametrize(
    "name", ["../a", "/etc/passwd", "a/../b", "a\\b", "..", ".", "", "a\n", "~", "c:a", "\x1b[2J", 7]
)
def test_a_name_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(verify_files.PackageError, match="no plain file name"):
        verify(folder, name)


def test_the_command_checks_all_files(folder: Path) -> None:
    program = (TEMPLATES / "verify_files.py").read_bytes()
    (folder / "verify_files.py").write_bytes(program)
    manifest = verify_files.read_manifest(folder)
    manifest["files"]["verify_files.py"] = {"sha256": hashlib.sha256(program).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    command = [sys.executable, "-I", str(folder / "verify_files.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2 files are as they were published.\n")
    (folder / "a.onnx").unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def write_package(folder: Path, **sources: str) -> dict[str, Any]:
    files = {}
    for name, source in sources.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        files[path.relative_to(folder).as_posix()] = {"sha256": hashlib.sha256(source.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    return {"files": files}


def plant_compiled(path: Path) -> None:
    """Write a compiled file beside the cache of ``path`` that Python takes without a look at the source."""
    code = marshal.dumps(compile("raise SystemExit('it ran')", str(path), "exec"))
    cached = Path(importlib.util.cache_from_source(str(path)))
    cached.parent.mkdir(exist_ok=True)
    cached.write_bytes(importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + code)


MODULES = {
    "model": "from layers import A\nfrom .layers import A as B\nfrom blocks_s28.one import C\n"
    "def late():\n    from .layers import A\n    return A, B, C\n",
    "layers": "A = 1",
    "blocks_s28__one": "C = 3",
}


def test_a_comment_stays_a_comment_whatever_encoding_is_declared(tmp_path: Path) -> None:
    manifest = write_package(tmp_path, model="# coding: unicode_escape\n# \\x0araise SystemExit('it ran')\nA = 1\n")
    assert verify_files.VerifiedCode(tmp_path, manifest).load("model.py").A == 1


@pytest.mark.parametrize("damaged", ["", "layers.py", "blocks_s28/one.py", "model.py", "unlisted", "compiled"])
def test_a_module_of_the_package_runs_only_from_verified_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k.split(".")[0] not in MODULES})
    monkeypatch.syspath_prepend(str(tmp_path))
    manifest = write_package(tmp_path, **MODULES)
    if damaged == "compiled":
        for name in manifest["files"]:
            plant_compiled(tmp_path / name)
    elif damaged == "unlisted":
        del manifest["files"]["layers.py"]
        (tmp_path / "layers.py").write_text("raise SystemExit('it ran')")
        monkeypatch.syspath_prepend("/nothing")
        sys.path.remove(str(tmp_path))
    elif damaged:
        (tmp_path / damaged).write_text("raise SystemExit('it ran')")
    code = verify_files.VerifiedCode(tmp_path, manifest)
    if damaged in ("", "compiled"):
        assert code.load("model.py").late() == (1, 1, 3)
    else:
        with pytest.raises((verify_files.PackageError, ImportError), match=r"is damaged|No module named 'layers'"):
            code.load("model.py")


@pytest.mark.parametrize("program", ["inference", "server", "load_example", "verify_files"])
def test_a_program_runs_no_file_that_stands_for_a_library(tmp_path: Path, program: str) -> None:
    sources = {path.stem: path.read_text() for path in TEMPLATES.rglob("*.py") if path.stem != "__init__"}
    names = sorted(sources, key=lambda name: name == "verify_files")
    write_package(tmp_path, **sources)
    for library in ("argparse", "html", "hashlib", "json", "onnxruntime", "uvicorn", "torch", "tempfile"):
        (tmp_path / f"{library}.py").write_text("raise SystemExit('it ran')")
    for name in names[:-1] if program == "verify_files" else names:
        plant_compiled(tmp_path / f"{name}.py")
    command = [sys.executable, "-S", str(tmp_path / f"{program}.py")]  # -S: the libraries themselves are not there
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "it ran" not in done.stderr + done.stdout
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["inference", "server", "load_example"])
def test_a_damaged_verifier_does_not_run(tmp_path: Path, program: str) -> None:
    write_package(tmp_path, verify_files="x = 1")
    source = next(TEMPLATES.rglob(f"{program}.py")).read_text()
    (tmp_path / "verify_files.py").write_text("raise RuntimeError('it ran')")
    functions = source[source.index("def _verified") :].split("\n\n\n")[:2]
    values: dict[str, Any] = {
        "PackageError": ValueError,
        "hashlib": hashlib,
        "json": json,
        "sys": sys,
        "ModuleType": ModuleType,
        "Path": Path,
    }
    exec("from __future__ import annotations\n" + "\n\n".join(functions), values)
    with pytest.raises((SystemExit, ValueError), match="it is damaged"):
        values["_verified"](tmp_path, True)


def test_the_command_names_code_that_is_not_of_the_package(tmp_path: Path) -> None:
    write_package(tmp_path, verify_files=(TEMPLATES / "verify_files.py").read_text())
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('it ran')")
    command = [sys.executable, "-I", str(tmp_path / "verify_files.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("onnxruntime.py: not of this package")


def test_the_page_may_run_the_sentence_that_it_shows_as_a_file() -> None:
    page = (TEMPLATES / "index.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page
    assert "file:" in script
    assert "python -m http.server" in script
