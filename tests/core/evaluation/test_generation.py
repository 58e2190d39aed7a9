from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.training.tiny import EOS, VOCAB_SIZE, Letters, make_model, make_splits
from transformer_foundry.core.data import Batches
from transformer_foundry.core.evaluation import sample_texts
from transformer_foundry.core.evaluation.generation import choose_token, fill_masks, generate, translate
from transformer_foundry.core.evaluation.options import SampleOptions


class Successor(nn.Module):
    """Certain that n is followed by n + 1; with a decoder, that the decoder counts on from its last token."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))
        self.longest = 0

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        ids = input_ids if decoder_input_ids is None else decoder_input_ids
        self.longest = max(self.longest, ids.size(1))
        return self.scale * nn.functional.one_hot((ids + 1) % VOCAB_SIZE, VOCAB_SIZE)


def draw(logits: list[float], count: int = 2000, **settings: Any) -> Counter[int]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor(logits).expand(count, -1)
    return Counter(choose_token(rows, generator=generator, **{"temperature": 1.0, **settings}).tolist())


def test_temperature_zero_takes_the_likeliest_token() -> None:
    assert draw([0.0, 2.0, 1.0], temperature=0.0) == {1: 2000}


def test_draws_follow_the_probabilities() -> None:
    shares = torch.tensor([0.2, 0.5, 0.3])
    found = draw(shares.log().tolist(), 20000)
    assert [found[token] / 20000 for token in range(3)] == pytest.approx(shares.tolist(), abs=0.02)


def test_a_low_temperature_sharpens_the_distribution() -> None:
    assert draw([0.0, 1.0], temperature=0.5)[1] / 2000 == pytest.approx(
        torch.sigmoid(torch.tensor(2.0)).item(), abs=0.03
    )


def test_top_k_leaves_the_likeliest_tokens() -> None:
    assert set(draw([0.3, 0.1, 0.2, 0.0], top_k=2)) == {0, 2}
    assert set(draw([0.3, 0.1, 0.2, 0.0], top_k=99)) == {0, 1, 2, 3}


def test_top_p_leaves_the_tokens_that_make_up_the_probability() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log().tolist()
    assert set(draw(logits, top_p=0.5)) == {1}
    assert set(draw(logits, top_p=0.7)) == {1, 2}
    assert set(draw(logits, top_p=1.0)) == {0, 1, 2}


def test_generation_continues_each_row_until_its_end() -> None:
    prompts = torch.tensor([[5, 6], [30, 31]])
    ids = generate(Successor(), prompts, 4, temperature=0.0, eos_token_id=0)
    assert ids.tolist() == [[5, 6, 7, 8, 9, 10], [30, 31, 0, 0, 0, 0]]
    assert generate(Successor(), prompts[1:], 4, temperature=0.0, eos_token_id=0).tolist() == [[30, 31, 0]]


def test_the_model_never_sees_more_than_its_maximum() -> None:
    model = Successor()
    generate(model, torch.tensor([[5, 6]]), 9, max_length=4)
    assert model.longest == 4


def test_the_same_seed_gives_the_same_samples_and_leaves_the_global_state_alone() -> None:
    model, batch = make_model(), Batches(make_splits().validation, make_splits(), batch_size=3).batch(0)
    before = torch.get_rng_state()
    first, second, other = (
        sample_texts(model, Letters(), "causal_lm", batch, SampleOptions(max_new_tokens=20), seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == second != other
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_are_filled_with_the_likeliest_token() -> None:
    batch = {"input_ids": torch.tensor([[4, 9, 6]]), "labels": torch.tensor([[-100, 5, -100]])}
    assert fill_masks(Successor(), batch).tolist() == [[4, 10, 6]]


def test_a_translation_starts_with_the_start_token_and_stops_at_the_end() -> None:
    batch = {"input_ids": torch.tensor([[4, 5]]), "decoder_input_ids": torch.tensor([[28, 0, 0]])}
    assert translate(Successor(), batch, 9, eos_token_id=31).tolist() == [[29, 30, 31]]
    assert translate(Successor(), batch, 2, eos_token_id=31).tolist() == [[29, 30]]


@pytest.mark.parametrize(
    ("task", "word"),
    [
        ("causal_lm", ">>"),
        ("masked_lm", " for "),
        ("seq2seq_lm", "reference: <"),
        ("sequence_classification", "true: "),
    ],
)
def test_every_task_has_samples(task: str, word: str) -> None:
    splits = make_splits(task)
    batch = Batches(splits.validation, splits, batch_size=4).batch(0)
    model = make_model(task).train()
    lines = sample_texts(
        model,
        Letters(),
        task,
        batch,
        SampleOptions(num_samples=3, max_new_tokens=4),
        max_length=12,
        label_names=splits.label_names,
    )
    assert len(lines) == 3
    assert all(word in line and "\n" not in line for line in lines)
    assert f"<{EOS}>" not in "".join(lines)
    assert model.training


def test_no_samples_are_made_when_none_are_wanted() -> None:
    batch = Batches(make_splits().validation, make_splits(), batch_size=4).batch(0)
    assert sample_texts(make_model(), Letters(), "causal_lm", batch, SampleOptions(num_samples=0)) == ()


def test_a_module_that_demands_a_mask_writes_too() -> None:
    class Demanding(Successor):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
            assert attention_mask.shape == input_ids.shape
            assert bool(attention_mask.all())
            return super().forward(input_ids)

    assert generate(Demanding(), torch.tensor([[4, 5]]), 2, temperature=0).tolist() == [[4, 5, 6, 7]]


def test_labels_are_shown_for_tokens_that_have_one() -> None:
    batch = {
        "input_ids": torch.tensor([[4, 5, 6, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0]]),
        "labels": torch.tensor([[5, -100, 6, -100]]),
    }
    (line,) = sample_texts(Successor(), Letters(), "token_classification", batch, SampleOptions())
    assert line.endswith(">> 5 7 (true: 5 6)")


class Words:
    """A tokenizer of a few words; 0 and 1 are special."""

    eos_token_id = 1

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(["", "", "Na", "me", " Fiji", " is", " an"][number] for number in ids)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ([3, 4, 5, 1, 0, 2, 3, 4], "Name"),  # in the middle of a text, then another one
        ([3, 4, 5, 6, 4, 5, 6, 4], "Fiji is an"),  # in the middle of a word
        ([0, 2, 3, 4, 1, 0, 5, 6], "Name"),  # where a text begins
        ([3, 3, 3, 3, 3, 3, 3, 3], "mememe"),  # no text and no word begins
    ],
)
def test_a_prompt_begins_where_a_text_or_at_least_a_word_begins(row: list[int], prompt: str) -> None:
    class Wordy(Successor):
        def forward(self, input_ids: Tensor, **_: Tensor) -> Tensor:  # type: ignore[override]
            return self.scale * nn.functional.one_hot(torch.full_like(input_ids, 5), 7)

    batch = {"input_ids": torch.tensor([row])}
    (line,) = sample_texts(Wordy(), Words(), "causal_lm", batch, SampleOptions(num_samples=1, max_new_tokens=2))
    assert line.split(" >> ")[0].startswith(prompt)
    assert line.endswith(" >> is is")
