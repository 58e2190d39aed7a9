"""Modules beside ``model.py``: found, hashed, screened, tried, run from the texts that were read, and packaged."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.core.models.sound_styles import write_style
from tests.faults.limits import limited
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import approve, build_model, describe_export, load_model, read_export
from transformer_foundry.core.models.source.support_modules import collect_support

PACKAGE = "a package beside model.py, relative imports"
MODULE = "a module beside model.py"
IDS = torch.arange(10).view(2, 5)


def logits(source: Path) -> torch.Tensor:
    return load_model(approve(read_export(source), trust_code=True)).eval()(IDS)


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("import torch, math\nimport blocks", ["blocks.py"]),
        ("from blocks import Block", ["blocks.py"]),
        ("from . import blocks", ["blocks.py"]),
        ("from .parts.attention import Attention", ["parts/__init__.py", "parts/attention.py", "parts/mask.py"]),
        ("import parts.mask", ["parts/__init__.py", "parts/mask.py"]),
        ("from model import Net\nfrom torch import nn\nimport json", []),
    ],
)
def test_the_modules_that_model_py_imports_are_found(code: str, files: list[str]) -> None:
    disk = dict.fromkeys(("blocks.py", "parts/__init__.py", "unused.py", "json.py", "torch.py", "model.py"), b"")
    disk |= {"parts/attention.py": b"from .mask import causal\nfrom .. import model", "parts/mask.py": b"import math"}
    assert list(collect_support(code.encode(), disk.get)) == files


@pytest.mark.parametrize(
    "code",
    [
        "import " + ".".join("a" * 60_000),
        ("from " + "." + "a." * 60 + "a import b\n") * 3000,
        "from " + ".a" * 500 + " import a" + ", a" * 100_000,
        "a\n" * 3_000_000,
    ],
)
def test_imports_of_hostile_code_are_followed_in_bounded_time_and_memory(code: str) -> None:
    with limited(memory_mib=300, seconds=5):
        assert collect_support(code.encode(), lambda _: None) == {}


def test_code_that_names_ever_more_files_is_refused() -> None:
    code = "".join(f"from .a.b.c.d.e import f{number}\n" for number in range(9000))
    with limited(memory_mib=200, seconds=5), pytest.raises(ModelError, match="more than 32,768 names"):
        collect_support(code.encode(), lambda _: None)


def test_the_modules_together_have_a_limit() -> None:
    code = "".join(f"import part{number}\n" for number in range(9))
    with pytest.raises(ModelError, match="more than 2 MiB together"):
        collect_support(code.encode(), lambda _: b"#" * 250_000)


def test_what_a_coding_line_hides_is_not_followed() -> None:
    code = b"# coding: unicode_escape\n# \\x0aimport blocks\n"
    assert collect_support(code, {"blocks.py": b""}.get) == {}


def test_the_digest_and_the_description_cover_all_modules(tmp_path: Path) -> None:
    folder = write_style(tmp_path / "export", PACKAGE)
    before = read_export(folder)
    (folder / "layers" / "settings.py").write_text("import subprocess\nWIDTH = 16\n", encoding="utf-8")
    after = read_export(folder)
    assert before.identity != after.identity
    assert before.code_digest != after.code_digest
    assert "layers/settings.py line 1 imports subprocess" in describe_export(after)


def test_the_texts_that_were_read_run(tmp_path: Path) -> None:
    export = read_export(write_style(tmp_path / "export", PACKAGE))
    for file in (tmp_path / "export" / "layers").iterdir():
        file.write_text("raise RuntimeError('changed')", encoding="utf-8")
    assert build_model(export).state_dict().keys() >= {"head.weight"}


def test_two_exports_with_a_module_of_one_name_do_not_mix(tmp_path: Path) -> None:
    first, second = (write_style(tmp_path / name, MODULE) for name in ("first", "second"))
    text = (second / "blocks.py").read_text(encoding="utf-8")
    (second / "blocks.py").write_text(text.replace("d=16, h=2, n=2", "d=16, h=2, n=1"), encoding="utf-8")
    before = set(sys.modules)
    counts = [len(load_model(read_export(folder)).model.body.blocks) for folder in (first, second, first)]  # type: ignore[union-attr, arg-type]
    assert counts == [2, 1, 2]
    assert "blocks" not in set(sys.modules) - before


@pytest.mark.parametrize("style", [MODULE, PACKAGE])
def test_a_zip_file_gives_the_same_model_as_the_folder(style: str, tmp_path: Path) -> None:
    folder = write_style(tmp_path / "export", style)
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, Path("my-model") / file.relative_to(folder))
    assert torch.equal(logits(folder), logits(tmp_path / "export.zip"))


def test_an_error_names_the_line_of_the_module(tmp_path: Path) -> None:
    folder = write_style(tmp_path / "export", PACKAGE)
    stack = folder / "layers" / "stack.py"
    lines = stack.read_text(encoding="utf-8").replace("x = x + self.proj(", "x = x + 1 / 0 + self.proj(")
    stack.write_text(lines, encoding="utf-8")
    number = next(i for i, line in enumerate(lines.splitlines(), 1) if "1 / 0" in line)
    with pytest.raises(ModelError, match=rf"stack\.py line {number} .*ZeroDivisionError"):
        load_model(read_export(folder))


def test_a_missing_module_is_named_with_what_is_there(tmp_path: Path) -> None:
    folder = write_style(tmp_path / "export", MODULE)
    (folder / "blocks.py").rename(folder / "block.py")
    with pytest.raises(ModelError, match="No module named 'blocks'"):
        load_model(read_export(folder))
