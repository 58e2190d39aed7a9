from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import DataError, TrainingError
from transformer_foundry.core.data import Batches, read_token_file
from transformer_foundry.core.models import adapt
from transformer_foundry.core.training import Progress, TrainingOptions, fit

IDS = np.arange(1000) % 50


def write_ids(folder: Path, ids: np.ndarray = IDS) -> Path:
    path = folder / "tokens.bin"
    ids.astype(np.uint16).tofile(path)
    return path


def test_every_token_but_the_first_is_a_target_once(tmp_path: Path) -> None:
    splits = read_token_file(write_ids(tmp_path), vocab_size=50, length=10, validation_share=0.0)
    batches = Batches(splits.train, splits, batch_size=4)
    targets = [row[1:] for at in range(len(batches)) for row in batches.batch(at)["labels"].tolist()]
    assert [token for row in targets for token in row] == IDS[1 : 1 + len(targets) * 9].tolist()
    assert len(targets) * 9 > len(IDS) - 10


def test_the_end_of_the_file_is_the_validation_split(tmp_path: Path) -> None:
    splits = read_token_file(write_ids(tmp_path), vocab_size=50, length=10, validation_share=0.1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (100, 11, 0)
    assert splits.validation.input_ids[0][0] == IDS[100 * 9]


class Plain(nn.Module):
    """A module with names of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(50, 16), nn.Linear(16, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens))


def test_any_module_trains_on_a_token_file(tmp_path: Path) -> None:
    splits = read_token_file(write_ids(tmp_path), vocab_size=50, length=10)
    options = TrainingOptions(max_steps=60, learning_rate=0.05, eval_steps=60, device="cpu")
    records = [record for record in fit(adapt(Plain()), splits, options) if isinstance(record, Progress)]
    assert records[-1].metrics["eval/loss"] < 1.0


def test_a_module_with_other_arguments_is_told_how_to_be_adapted(tmp_path: Path) -> None:
    splits = read_token_file(write_ids(tmp_path), vocab_size=50, length=10)
    with pytest.raises(TrainingError, match="forward of Plain takes tokens") as caught:
        next(iter(fit(Plain(), splits, TrainingOptions(device="cpu"))))
    assert "adapt(model)" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"vocab_size": 40}, "id 49, but the vocabulary has 40"), ({"length": 2000}, "2000 bytes"),
     ({"dtype": np.uint64, "length": 300}, "2000 bytes")],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_token_file(write_ids(tmp_path), **{"vocab_size": 50, "length": 10, **changes})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*missing\.bin"):
        read_token_file(tmp_path / "missing.bin", vocab_size=50, length=10)
