"""The bundled sample models, through the real adapter: they learn and go on to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tokenizers
import torch

from tests.core.data.samples import contract_for, corpus_of, documents_for
from tests.core.training.tiny import (
    SPECIAL,
    Letters,
    assert_same_state,
    checkpoints,
    history,
    make_model,
    make_options,
    make_splits,
)
from transformer_foundry.core.base.errors import CheckpointError, TrainingError
from transformer_foundry.core.data import DataOptions, Tokenizer, fit_tokenizer, load_tokenizer
from transformer_foundry.core.models import Adapter, adapt, load_model, read_export
from transformer_foundry.core.training import TrainingState, fit, read_checkpoint, run_identity, write_checkpoint

SAMPLES = Path(__file__).parents[3] / "data" / "01_raw" / "exports"
OPTIONS = make_options(max_steps=6, save_steps=3, eval_steps=3, save_epochs=False, learning_rate=1e-3)


def load(name: str) -> Adapter:
    return load_model(read_export(SAMPLES / name))


@pytest.mark.parametrize("name", ["gpt", "bert", "t5"])
def test_a_sample_model_learns_and_resumes_to_the_bit(name: str, tmp_path: Path) -> None:
    adapter = load(name)
    splits = make_splits(adapter.contract.task)

    def train(adapter: Adapter, state: TrainingState | None = None) -> list:  # type: ignore[type-arg]
        return list(fit(adapter, splits, OPTIONS, tokenizer=Letters(), resume_from=state))

    whole = train(adapter)
    state = read_checkpoint(write_checkpoint(tmp_path, checkpoints(whole)[0]))
    resumed = train(load(name), state)
    assert_same_state(checkpoints(resumed)[-1].state, checkpoints(whole)[-1].state)
    assert history(resumed) == [row for row in history(whole) if row[0] > 3]
    assert history(whole)[-1][1]["train/loss"] < history(whole)[0][1]["train/loss"]


def test_weights_are_named_as_in_the_user_s_model() -> None:
    adapter = load("gpt")
    records = fit(adapter, make_splits(), make_options(max_steps=1, num_samples=0))
    state = checkpoints(records)[-1].state
    assert state.model.keys() == adapter.model.state_dict().keys()
    assert state.model["lm_head.weight"] is state.model["token_embedding.weight"]


def test_data_for_another_task_are_refused() -> None:
    with pytest.raises(TrainingError, match="prepared for seq2seq_lm, but the task of the model is causal_lm"):
        next(iter(fit(load("gpt"), make_splits("seq2seq_lm"), OPTIONS)))


def test_data_with_more_tokens_than_the_model_are_refused() -> None:
    splits = dataclasses.replace(make_splits(), vocab_size=513)
    with pytest.raises(TrainingError, match="513 token ids, but the model's vocabulary has 512"):
        next(iter(fit(load("gpt"), splits, OPTIONS)))


def test_data_with_longer_rows_than_the_model_takes_are_refused() -> None:
    splits = dataclasses.replace(make_splits(), max_length=129)
    with pytest.raises(TrainingError, match="rows of up to 129 tokens, but the model takes at most 128") as caught:
        next(iter(fit(load("gpt"), splits, OPTIONS)))
    assert "data.max_length=128" in caught.value.remedy


def test_data_with_more_classes_than_the_model_has_outputs_are_refused() -> None:
    task = "sequence_classification"
    adapter = adapt(make_model(task), {"vocab_size": 32, "max_seq_len": 12}, kind="encoder-only", task=task)
    splits = dataclasses.replace(make_splits(task), label_names=("red", "green", "blue", "grey"))
    with pytest.raises(TrainingError, match="4 classes, but the model has 3 outputs"):
        next(iter(fit(adapter, splits, OPTIONS)))


def make_tokenizer(*letters: str) -> Tokenizer:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({letter: i for i, letter in enumerate(letters)}))
    return Tokenizer(backend, SPECIAL)


def test_a_run_belongs_to_code_config_data_and_tokenizer() -> None:
    export, tokenizer = read_export(SAMPLES / "gpt"), make_tokenizer("a", "b")
    identity = run_identity(export, make_splits(), tokenizer)
    assert identity == {
        "model_code": export.sha256["model.py"],
        "config": export.sha256["config.json"],
        "data": "f" * 64,
        "tokenizer": tokenizer.digest(),
    }


def test_a_run_does_not_go_on_with_another_tokenizer() -> None:
    export, splits = read_export(SAMPLES / "gpt"), make_splits()
    first, other = (run_identity(export, splits, make_tokenizer(*letters)) for letters in ("ab", "ba"))
    state = checkpoints(fit(load("gpt"), splits, OPTIONS, identity=first))[0].state
    with pytest.raises(CheckpointError, match="belongs to another tokenizer: sha256"):
        next(iter(fit(load("gpt"), splits, OPTIONS, identity=other, resume_from=state)))


def test_a_tokenizer_that_was_saved_is_not_another_one(tmp_path: Path) -> None:
    export, corpus = read_export(SAMPLES / "bert"), corpus_of(documents_for("masked_lm"), "masked_lm")
    tokenizer = fit_tokenizer(corpus, contract_for("masked_lm"), DataOptions())
    tokenizer.save(tmp_path)
    first, later = (run_identity(export, make_splits(), found) for found in (tokenizer, load_tokenizer(tmp_path)))
    assert first == later


def test_an_adapter_s_model_can_be_trained_without_the_adapter() -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = load("gpt").model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
            return self.model(input_ids)

    state = checkpoints(fit(Plain(), make_splits(), make_options(max_steps=1, num_samples=0)))[-1].state
    assert "model.token_embedding.weight" in state.model
