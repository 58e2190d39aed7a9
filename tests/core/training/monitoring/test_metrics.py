from __future__ import annotations

import torch
from torch import nn

from tests.core.training.tiny import TinyTransformer
from transformer_foundry.core.system.precision import choose_precision
from transformer_foundry.core.training.monitoring.metrics import ThroughputMonitor, flops_per_token, used_memory_gb

CPU = choose_precision("cpu", "fp32")


def test_a_table_counts_only_where_it_is_the_head_too() -> None:
    tied = TinyTransformer()
    assert flops_per_token(tied) == 6 * sum(parameter.numel() for parameter in tied.parameters())
    untied = TinyTransformer()
    untied.head = nn.Linear(16, 32, bias=False)
    assert flops_per_token(untied) == flops_per_token(tied)


def test_the_memory_of_the_process_grows_with_what_it_holds() -> None:
    before = used_memory_gb(torch.device("cpu"))
    held = torch.ones(100_000_000)  # 0.4 GB
    after = used_memory_gb(torch.device("cpu"))
    assert held.numel()
    assert before is not None
    assert after is not None
    assert after >= 0.4
    assert after >= before


def test_a_processor_of_unknown_speed_has_no_mfu() -> None:
    assert set(ThroughputMonitor(TinyTransformer(), CPU).metrics(1000.0)) == {"train/memory_gb"}
