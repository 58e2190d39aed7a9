"""The answer of a trained model to a prompt, for each task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.core.data.samples import corpus_of, documents_for
from tests.integration.foundry import SAMPLES
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, fit_tokenizer
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.notebook.try_model import _answer, answer, free_memory


def ask(kind: str, task: str, prompt: str, *, labels: list[str] | None = None, asked: Any = None) -> str:
    """Ask the untrained sample, or ``asked`` in its place, with a tokenizer fitted for its task."""
    adapter = load_model(read_export(SAMPLES / kind))
    tokenizer = fit_tokenizer(corpus_of(documents_for(task), task), adapter.contract, DataOptions())
    splits = SimpleNamespace(task=task, max_length=64, label_names=labels)
    return _answer(asked or adapter.eval(), tokenizer, splits, prompt, 8)


def test_a_causal_model_continues_the_prompt() -> None:
    assert ask("gpt", "causal_lm", "The dog").startswith("The dog")


def test_a_masked_model_fills_the_masks_and_keeps_the_rest() -> None:
    answered = ask("bert", "masked_lm", "The [MASK] sees [MASK]")
    assert answered.startswith("The ")
    assert " sees " in answered
    assert "[MASK]" not in answered


def test_a_masked_model_without_a_mask_predicts_the_next_token() -> None:
    import torch

    class Guess(torch.nn.Linear):
        def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            # Everywhere the first token of the prompt.
            return torch.nn.functional.one_hot(input_ids[:, :1].expand_as(input_ids), 512).float()

    answered = ask("bert", "masked_lm", "dog dog dog", asked=Guess(1, 1))
    assert answered.startswith("dog dog dog")
    assert answered != "dog dog dog"


def test_an_encoder_decoder_returns_a_text() -> None:
    assert isinstance(ask("t5", "seq2seq_lm", "The dog sees"), str)


def test_a_classifier_returns_the_class_with_its_probability() -> None:
    import torch

    def classify(**_: Any) -> torch.Tensor:
        return torch.tensor([[0.0, 3.0]])

    assert ask("gpt", "sequence_classification", "Fine!", labels=["bad", "good"], asked=classify) == "good (95%)"


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="PROMPT"):
        answer("  ")


def test_without_a_gpu_there_is_nothing_to_free(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    free_memory()
    assert "nothing to free" in capsys.readouterr().out
