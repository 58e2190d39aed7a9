"""Exported files hold nothing of the machine and of the program that made them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

PROGRAM = """
import sys
from pathlib import Path
import torch
from transformer_foundry.core.export.formats.debug_info import drop_torchscript_stacks

def export(path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    torch.jit.save(torch.jit.trace(model, torch.ones(2, 3), check_trace=False), path)
    drop_torchscript_stacks(Path(path))

def called_from_elsewhere(path):
    export(path)

(export if sys.argv[2] == "1" else called_from_elsewhere)(sys.argv[1])
"""


def test_torchscript_of_two_processes_has_the_same_bytes_and_still_works(tmp_path: Path) -> None:
    # In one process torch numbers the classes on: the second file has other names.
    files = [tmp_path / "1" / "model.pt", tmp_path / "2" / "model.pt"]
    for path in files:
        path.parent.mkdir()
        subprocess.run([sys.executable, "-c", PROGRAM, str(path), path.parent.name], check=True)
    first, second = (path.read_bytes() for path in files)

    assert first == second
    assert str(Path(torch.__file__).parents[1]).encode() not in first
    loaded = torch.jit.load(str(files[0]))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    values = torch.randn(5, 3)
    assert torch.equal(loaded(values), model(values))
