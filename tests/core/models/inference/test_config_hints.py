"""The configuration is read in every usual spelling."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.options import KINDS, TASKS


@pytest.mark.parametrize(
    ("config", "name", "kind"),
    [
        ({"architecture": "decoder_only"}, "", "decoder-only"),
        ({"model_type": "t5"}, "", "encoder-decoder"),
        ({"model_type": "gpt2"}, "", "decoder-only"),
        ({"model_type": "roberta"}, "", "encoder-only"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "BartForCausalLM", "decoder-only"),
        ({"model_type": "bert", "is_decoder": True}, "BertLMHeadModel", "decoder-only"),
        ({"is_encoder_decoder": True}, "Net", "encoder-decoder"),
        ({"preset": "llama"}, "Net", "decoder-only"),
        ({"task": "mlm"}, "Net", "encoder-only"),
        ({"type": "adopted"}, "Net", None),
        ({"architecture": {"vocab_size": 3}}, "Net", None),
        ({}, "CustomTransformer", None),
    ],
)
def test_the_kind_is_read(config, name, kind) -> None:
    assert config_hints.kind_hint(config, name) == kind


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BertForMaskedLM", "masked_lm"),
        ("GPT2LMHeadModel", "causal_lm"),
        ("LlamaForCausalLM", "causal_lm"),
        ("T5ForConditionalGeneration", "seq2seq_lm"),
        ("BertForSequenceClassification", "sequence_classification"),
        ("SentimentClassifier", "sequence_classification"),
        ("BertForTokenClassification", "token_classification"),
        ("Seq2SeqTransformer", "seq2seq_lm"),
        ("CustomTransformer", None),
    ],
)
def test_the_task_is_read_from_the_name_of_the_class(name, task) -> None:
    assert config_hints.task_hint({}, name) == task


def test_values_are_found_at_the_top_then_in_sections_then_in_blocks() -> None:
    blocks = {"nodes": [{"id": "e", "params": {"vocab_size": 3}}, "odd", {"id": "x"}]}
    assert config_hints.vocabulary_hint(blocks) == 3
    assert config_hints.vocabulary_hint({**blocks, "model": {"vocab_size": 2}}) == 2
    assert config_hints.vocabulary_hint({**blocks, "model": {"vocab_size": 2}, "vocab_size": 1}) == 1


def test_source_and_target_may_have_different_vocabularies() -> None:
    config = {"vocab_size": 5, "tgt_vocab_size": 7}
    assert (config_hints.vocabulary_hint(config), config_hints.vocabulary_hint(config, decoder=True)) == (5, 7)


@pytest.mark.parametrize("value", ["12", 0, -3, True, 2.5, None, [4]])
def test_an_invalid_size_counts_as_missing(value) -> None:
    assert config_hints.vocabulary_hint({"vocab_size": value}) is None


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = ("vocab_size", "nodes", "architecture", "task", "max_seq_len", "pad_token_id", "id2label", "model")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES | st.lists(VALUES) | st.dictionaries(st.sampled_from(KEYS), VALUES)),
    st.text(max_size=20),
)
def test_no_configuration_breaks_the_readers(config, name) -> None:
    assert config_hints.kind_hint(config, name) in (*KINDS, None)
    assert config_hints.kind_guess(config, name) in (*KINDS, None)
    assert config_hints.task_hint(config, name) in (*TASKS, None)
    assert (config_hints.max_length_hint(config) or 1) > 0
    assert (config_hints.num_labels_hint(config) or 1) > 0
    assert all(value is None or 0 <= value < 10 for value in config_hints.special_tokens(config, 10).values())


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("LateNormLM", None),
        ("TimmLMTransformer", None),
        ("BertForMaskedLM", "masked_lm"),
        ("MLMModel", "masked_lm"),
        ("GPT2LMHeadModel", "causal_lm"),
        ("GPTLMHead", "causal_lm"),
        ("T5ForConditionalGeneration", "seq2seq_lm"),
        ("Seq2SeqTransformer", "seq2seq_lm"),
        ("BertForPreTraining", "masked_lm"),
        ("CausalLM", "causal_lm"),
        ("TextClassifier", "sequence_classification"),
    ],
)
def test_the_task_is_read_from_whole_words_of_the_class(name: str, task: str | None) -> None:
    assert config_hints.task_hint({}, name) == task
