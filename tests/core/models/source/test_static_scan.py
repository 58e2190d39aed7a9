"""The static scan reports the lines that do more than compute, and no line of a plain model."""

from __future__ import annotations

import pytest

from tests.faults.limits import limited
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


TRICKS = (
    "import torch; torch.serialization.load('x')",
    "import inspect; inspect.os.system('x')",
    "import logging; logging.io.open('x')",
    "import torch.serialization as s; s.load('x')",
    "from torch.serialization import load as attention; attention('x')",
    "from inspect import os as layers",
    "import random; random._os.listdir('.')",
    "import typing; typing.sys.modules['os']",
    "import torch; torch.nn.functional.importlib.import_module('os')",
    "import torch; t = torch; t.load('x')",
    "import torch; a, b = 1, torch; b.load('x')",
    "import torch; (t := torch).load('x')",
    "import torch\ndef f(t=torch): return t.load('x')",
    "import torch; [torch][0].load('x')",
    "import torch\nfor t in (torch,): t.load('x')",
    "import torch\nclass A: t = torch\nA.t.load('x')",
    "import torch\nclass A:\n    from torch import serialization as t\nA.t.load('x')",
    "from torch import *\nload('x')",
    "import torch; torch.__dict__['load']('x')",
    "import torch; vars(torch)['load']('x')",
    "import torch; g = getattr; g(torch, 'lo' + 'ad')('x')",
    "import torch; getattr(torch, 'load')('x')",
    "import torch; getattr(torch.serialization, 'load')('x')",
    "import operator, torch; operator.attrgetter('load')(torch)('x')",
    "import operator; operator.methodcaller('system', 'ls')",
    "import typing\nclass A: x: 'print(1)'\ntyping.get_type_hints(A)",
    "import torch; torch.from_file('x')",
    "import numpy; numpy.lib.npyio.DataSource('.')",
    "import numpy as np; np.zeros(3).tofile('x')",
    "import torch; torch._C.import_ir_module",
    "print.__self__.eval('1')",
    "def f(): yield\nf().gi_frame.f_back.f_globals",
    "match print:\n    case object(__self__=b): b.eval('1')",
    "'{0.__globals__}'.format(print)",
    "class A:\n    def __reduce__(self): return print, ()",
    "import types; types.LambdaType",
    "import torch; torch.nn.functional.softmax = print",
    "e = eval; e('1')",
)


@pytest.mark.parametrize("code", TRICKS)
def test_a_trick_is_seen_through(code: str) -> None:
    assert scan_code(code), code


def test_the_finding_names_the_thing_itself() -> None:
    found = scan_code("import inspect, torch\ninspect.os.system('x')\ntorch.serialization.load('x')\n")
    assert any(item.what == "uses inspect.os, which is os" for item in found), found
    assert any(item.what == "uses torch.serialization.load, which is torch.load" for item in found), found


def test_usual_code_is_not_reported() -> None:
    code = (
        "import torch\nimport torch.nn.functional as F\nfrom torch import nn\nfunctional = nn.functional\n"
        "flash = hasattr(F, 'scaled_dot_product_attention') and hasattr(torch, 'compile')\n"
        "dtype = getattr(torch, 'bfloat16')\n"
        "def forward(self, input, dim=-1):\n    return functional.softmax(input, dim) + torch.zeros(1, dtype=dtype)\n"
    )
    assert scan_code(code) == []


@pytest.mark.parametrize(
    "code",
    [
        "import torch\nx = torch" + ".a" * 1500,
        "import torch\n" + ("x = torch" + ".a" * 900 + "\n") * 60,
        "import torch\na = torch\n" + "".join(f"a = a.b{number}\n" for number in range(2000)),
        "x = " + "-" * 3000 + "1",
        "x = " + "(" * 150 + ")" * 150,
        "a\n" * 300_000,
        "import " + ".".join("a" * 120_000),
        "f'" + "{a}" * 100_000 + "'",
        "'A' " * 100_000,
        "getattr(" * 80 + "x" + ", 'a')" * 80,
    ],
)
def test_hostile_code_is_scanned_in_bounded_time_and_memory(code: str) -> None:
    scan_code("import torch")  # loads the modules that names are followed through
    with limited(memory_mib=400, seconds=8):
        scan_code(code)
