"""The cell in which a user talks to the trained model: each task answers in its own way."""

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


def test_a_causal_model_goes_on_with_the_prompt() -> None:
    assert ask("gpt", "causal_lm", "The dog").startswith("The dog")


def test_a_masked_model_fills_the_gaps_and_leaves_the_rest() -> None:
    told = ask("bert", "masked_lm", "The [MASK] sees [MASK]")
    assert told.startswith("The ")
    assert " sees " in told
    assert "[MASK]" not in told


def test_a_masked_model_without_a_gap_says_the_next_word() -> None:
    import torch

    class Guess(torch.nn.Linear):
        def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            # Everywhere the first token of the prompt.
            return torch.nn.functional.one_hot(input_ids[:, :1].expand_as(input_ids), 512).float()

    told = ask("bert", "masked_lm", "dog dog dog", asked=Guess(1, 1))
    assert told.startswith("dog dog dog")
    assert told != "dog dog dog"


def test_an_encoder_decoder_answers_with_a_text_of_its_own() -> None:
    assert isinstance(ask("t5", "seq2seq_lm", "The dog sees"), str)


def test_a_classifier_names_the_class_and_how_sure_it_is() -> None:
    import torch

    def classify(**_: Any) -> torch.Tensor:
        return torch.tensor([[0.0, 3.0]])

    assert ask("gpt", "sequence_classification", "Fine!", labels=["bad", "good"], asked=classify) == "good (95%)"


def test_an_empty_prompt_is_refused_with_the_field_to_fill() -> None:
    with pytest.raises(DataError, match="PROMPT"):
        answer("  ")


def test_without_a_gpu_there_is_nothing_to_free(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    free_memory()
    assert "nothing to free" in capsys.readouterr().out
