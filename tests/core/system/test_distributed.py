"""Two processes over gloo against one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core.training.tiny import TinyTransformer, checkpoints, make_options, make_splits
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.training import Progress, fit

OPTIONS: dict[str, Any] = {"max_steps": 6, "eval_steps": 3, "save_epochs": False, "save_steps": 3}


def train_here(folder: Path) -> None:
    """What each process of a torchrun does; rank 0 writes what came out."""
    model = TinyTransformer(dropout=0.0)
    options = make_options(**OPTIONS, per_device_train_batch_size=2)
    records = list(fit(model, make_splits(), options))
    metrics = [dict(record.metrics) for record in records if isinstance(record, Progress)]
    if os.environ.get("RANK", "0") == "0":
        torch.save({"weights": checkpoints(records)[-1].state.model, "metrics": metrics}, folder / "result.pt")


class Normalised(TinyTransformer):
    """With running statistics, which each process would gather of its own rows, and a weight that is a view."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.norm = torch.nn.BatchNorm1d(16)
        self.head.weight = torch.nn.Parameter(torch.randn(16, 32).t())

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.norm(self.embedding(input_ids).transpose(1, 2)).transpose(1, 2))


def train_normalised(folder: Path) -> None:
    model = Normalised()
    records = list(fit(model, make_splits(), make_options(**OPTIONS, ema_decay=0.9)))
    metrics = [record.metrics["eval/loss"] for record in records if "eval/loss" in getattr(record, "metrics", {})]
    saved = {"model": model.state_dict(), "metrics": metrics}
    torch.save(saved, folder / f"rank{os.environ['RANK']}.pt")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(rank: int, port: int, folder: Path, count: int = 2, function: str = "train_here") -> subprocess.Popen[str]:
    environment = {
        **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    code = f"from pathlib import Path; from {__name__} import {function}; {function}(Path({str(folder)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    port = free_port()
    processes = [start(rank, port, tmp_path) for rank in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    found = torch.load(tmp_path / "result.pt", weights_only=True)
    options = make_options(**OPTIONS, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    expected = list(fit(TinyTransformer(dropout=0.0), make_splits(), options))
    for name, tensor in checkpoints(expected)[-1].state.model.items():
        if name != "calls":
            torch.testing.assert_close(found["weights"][name], tensor, rtol=0, atol=1e-6)
    reference = [record.metrics for record in expected if isinstance(record, Progress)]
    for ours, theirs in zip(found["metrics"], reference, strict=True):
        for name in ("train/loss", "train/tokens_seen", "train/grad_norm", "eval/loss", "eval/accuracy"):
            assert ours.get(name, 0.0) == pytest.approx(theirs.get(name, 0.0), rel=1e-6)


def test_a_total_batch_that_processes_cannot_share_is_refused() -> None:
    from transformer_foundry.core.training.monitoring.preflight import require_even_shares

    options = make_options(per_device_train_batch_size="auto", total_train_batch_size=7)
    with pytest.raises(ParameterError, match="which 2 processes cannot share") as caught:
        require_even_shares(options, 2)
    assert "total_train_batch_size=6" in caught.value.remedy


@pytest.mark.slow
def test_all_processes_keep_the_same_running_statistics(tmp_path: Path) -> None:
    port = free_port()
    processes = [start(rank, port, tmp_path, function="train_normalised") for rank in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert first["metrics"] == second["metrics"]
    assert int(first["model"]["norm.num_batches_tracked"]) > 0
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])
