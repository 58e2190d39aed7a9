"""Tiny models of the transformers library, with the most complex signatures, get the right contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from transformer_foundry.core.models import Adapter, infer_contract

transformers = pytest.importorskip("transformers")

SIZES = {"vocab_size": 90, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "max_position_embeddings": 32}  # fmt: skip
GPT2 = {"vocab_size": 90, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
SEQ2SEQ = {"vocab_size": 90, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32,
           "pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1}  # fmt: skip
T5 = {
    "vocab_size": 90,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
# Class, configuration class, sizes, task, longest sequence.
MODELS = [
    ("GPT2LMHeadModel", "GPT2Config", GPT2, "causal_lm", 32),
    ("LlamaForCausalLM", "LlamaConfig", {**SIZES, "num_key_value_heads": 1}, "causal_lm", 32),
    ("MistralForCausalLM", "MistralConfig", {**SIZES, "num_key_value_heads": 1, "sliding_window": 4}, "causal_lm", 32),
    ("GPTNeoXForCausalLM", "GPTNeoXConfig", SIZES, "causal_lm", 32),
    (
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": 90, "hidden_size": 16, "n_layer": 2, "n_head": 2},
        "causal_lm",
        None,
    ),
    ("BertLMHeadModel", "BertConfig", {**SIZES, "is_decoder": True}, "causal_lm", 32),
    ("BertForMaskedLM", "BertConfig", SIZES, "masked_lm", 32),
    ("RobertaForMaskedLM", "RobertaConfig", SIZES, "masked_lm", 30),
    ("AlbertForMaskedLM", "AlbertConfig", {**SIZES, "embedding_size": 8}, "masked_lm", 32),
    ("BertForPreTraining", "BertConfig", SIZES, "masked_lm", 32),
    ("BertForSequenceClassification", "BertConfig", {**SIZES, "num_labels": 3}, "sequence_classification", 32),
    ("BertForTokenClassification", "BertConfig", {**SIZES, "num_labels": 5}, "token_classification", 32),
    (
        "GPT2ForSequenceClassification",
        "GPT2Config",
        {**GPT2, "pad_token_id": 0, "num_labels": 3},
        "sequence_classification",
        32,
    ),
    ("T5ForConditionalGeneration", "T5Config", T5, "seq2seq_lm", None),
    ("MarianMTModel", "MarianConfig", SEQ2SEQ, "seq2seq_lm", 32),
    ("BartForConditionalGeneration", "BartConfig", SEQ2SEQ, "seq2seq_lm", 32),
    ("BartForCausalLM", "BartConfig", SEQ2SEQ, "causal_lm", 32),
]
KINDS = {"causal_lm": "decoder-only", "seq2seq_lm": "encoder-decoder"}
SHIFTS = {"causal_lm": "shifted", "sequence_classification": None}
# BartForCausalLM does not shift labels, as its source shows; BertForPreTraining needs a second kind of labels.
OTHER_LOSSES = ("BartForCausalLM", "BertForPreTraining")


@pytest.fixture(params=MODELS, ids=lambda case: case[0])
def case(request) -> tuple[Adapter, Any, str, int | None]:
    class_name, config_name, sizes, task, longest = request.param
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(getattr(transformers, config_name)(**sizes))
    return Adapter(model, infer_contract(model, model.config.to_dict())), class_name, task, longest


def test_kind_task_and_sizes_are_right(case) -> None:
    adapter, class_name, task, longest = case
    contract = adapter.contract
    kind = "decoder-only" if class_name.startswith("GPT2") else KINDS.get(task, "encoder-only")
    assert (contract.kind, contract.task, contract.max_length) == (kind, task, longest)
    assert (contract.vocab_size, contract.ids_argument) == (90, "input_ids")
    assert (contract.mask_argument, contract.mask_meaning) == ("attention_mask", "real")


def test_the_shift_of_the_loss_is_right(case) -> None:
    adapter, class_name, task, _ = case
    if class_name not in OTHER_LOSSES:
        assert adapter.contract.computes_loss
        assert adapter.contract.loss_shift == SHIFTS.get(task, "unshifted")


def test_the_adapter_returns_what_the_model_does(case) -> None:
    adapter, _, task, _ = case
    ids = torch.randint(5, 90, (2, 6))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    given = {"decoder_input_ids": ids[:, :3]} if task == "seq2seq_lm" else {}
    adapter.eval()
    with torch.no_grad():
        output = adapter.model(input_ids=ids, attention_mask=mask, **given)
        expected = output.logits if hasattr(output, "logits") else output.prediction_logits
        assert torch.allclose(adapter(ids, mask, **given), expected, atol=1e-6)
