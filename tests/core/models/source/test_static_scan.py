"""The static scan reports the lines that do more than compute, and no line of a plain model."""

from __future__ import annotations

import pytest

from tests.integration.foundry import SAMPLES
from transformer_foundry.core.models import scan_code


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("import os", "imports os"),
        ("import os as quiet; quiet.system('ls')", "os.system"),
        ("from subprocess import run; run(['ls'])", "subprocess.run"),
        ("import torch; torch.load('weights.pt')", "torch.load"),
        ("from torch import hub; hub.load('user/name')", "torch.hub"),
        ("eval('1')", "eval"),
        ("__import__('socket')", "__import__"),
        ("open('/etc/passwd')", "open"),
        ("().__class__.__mro__[1].__subclasses__()", "__subclasses__"),
        ("import torch; getattr(torch, 'lo' + 'ad')('x')", "getattr"),
        ("from .helper import thing", "imports"),
        (f"code = '{'A' * 500}'", "500 characters"),
    ],
)
def test_a_risky_line_is_reported(line: str, finding: str) -> None:
    found = scan_code(f"import math\n{line}\n")
    assert any(item.line == 2 and finding in item.what for item in found), found


@pytest.mark.parametrize("name", ["gpt", "bert", "t5"])
def test_nothing_is_found_in_a_plain_model(name: str) -> None:
    assert scan_code((SAMPLES / name / "model.py").read_text()) == []


def test_code_that_does_not_parse_has_no_findings() -> None:
    assert scan_code("class Model(:\n") == []
