"""Drawings in other names, orders and hands are recognized; what differs in one thing is not claimed, and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.core.export.native.drawings import (
    BART,
    BERT,
    GPT,
    LLAMA,
    LONGEST,
    NEOX,
    OPT,
    T5,
    VOCABULARY,
    Drawing,
    Pair,
)  # fmt: skip
from transformer_foundry.core.export.native.families.candidate import Candidate
from transformer_foundry.core.export.native.proof import build, load_weights
from transformer_foundry.core.export.native.recognize import recognize
from transformer_foundry.core.models.adapter import Adapter
from transformer_foundry.core.models.contract import Contract

DRAWINGS: list[tuple[str, dict[str, Any]]] = [
    ("GPT2LMHeadModel", GPT),
    ("GPT2LMHeadModel", GPT | {"style": "by-head", "act": "tanh-gelu", "positions": "parameter"}),
    ("GPT2LMHeadModel", GPT | {"style": "single", "kernel": "plain", "bias": False, "tied": False}),
    ("OPTForCausalLM", GPT | {"style": "torch", "act": "relu", "positions": "offset"}),
    ("GPT2LMHeadModel", GPT | {"style": "torch", "weights": True, "norm": "own-layer"}),
    ("GPT2LMHeadModel", GPT | {"style": "apart", "kernel": "einsum", "norm": "layer-no-bias"}),
    ("GPT2LMHeadModel", GPT | {"kernel": "plain", "soft_mask": True, "swap": True, "eps": 1e-6}),
    ("GPT2LMHeadModel", GPT | {"kernel": "plain", "scale": 0.3, "segment": True, "norm": "layer-bare"}),
    ("GPT2LMHeadModel", GPT | {"act": "squared", "inner": 24, "bias": False, "out_bias": True}),
    ("GPT2LMHeadModel", GPT | {"style": "apart", "act": "silu", "norm": "own-layer", "eps": 1e-3}),
    ("LlamaForCausalLM", LLAMA | {"style": "apart"}),
    ("LlamaForCausalLM", LLAMA | {"rotary": "pairs", "norm": "own-rms", "tied": True}),
    ("LlamaForCausalLM", LLAMA | {"rotary": "complex", "style": "apart", "groups": 2, "theta": 500000.0}),
    ("LlamaForCausalLM", LLAMA | {"rotary": "written", "style": "by-head", "gated": "one", "eps": 1e-6}),
    ("LlamaForCausalLM", LLAMA | {"style": "apart", "groups": 1, "expanded": True, "gated": "one", "gate_last": True}),
    ("LlamaForCausalLM", LLAMA | {"style": "apart", "groups": 2, "tiled": True, "kernel": "plain"}),
    ("LlamaForCausalLM", LLAMA | {"norm": "gemma", "act": "tanh-gelu", "style": "apart", "head_size": 6}),
    ("LlamaForCausalLM", LLAMA | {"bias": True, "kernel": "einsum", "theta": 1000000.0}),
    ("LlamaForCausalLM", LLAMA | {"net_bias": True, "style": "single", "kernel": "plain", "scale": 0.5}),
    ("LlamaForCausalLM", LLAMA | {"swap": True, "theta": 100.0, "act": "relu"}),
    ("Qwen2ForCausalLM", LLAMA | {"bias": True, "out_bias": False, "net_bias": False, "style": "apart", "groups": 2}),
    ("Qwen2ForCausalLM", LLAMA | {"bias": True, "out_bias": False, "net_bias": False, "rotary": "complex"}),
    ("Qwen3ForCausalLM", LLAMA | {"head_norm": "rms", "style": "apart", "groups": 2, "theta": 1e6}),
    ("Qwen3ForCausalLM", LLAMA | {"head_norm": "own-rms", "rotary": "pairs", "style": "apart", "head_size": 8}),
    ("GPTNeoXForCausalLM", NEOX),
    ("GPTNeoXForCausalLM", NEOX | {"style": "by-head", "part": 0.5, "rotary": "pairs"}),
    ("GPTNeoXForCausalLM", NEOX | {"place": "pre", "style": "apart", "kernel": "plain", "tied": True}),
    ("GPTNeoXForCausalLM", NEOX | {"bias": False, "net_bias": True, "act": "tanh-gelu", "rotary": "written"}),
    ("GPTNeoXForCausalLM", NEOX | {"norm": "own-layer", "rotary": "complex", "style": "single", "theta": 500.0}),
    ("OPTForCausalLM", OPT),
    ("OPTForCausalLM", OPT | {"style": "torch", "act": "gelu", "positions": "parameter"}),
    ("OPTForCausalLM", OPT | {"style": "single", "kernel": "plain", "tied": False}),
    ("BertForMaskedLM", BERT),
    ("BertForMaskedLM", BERT | {"style": "torch", "segment": True, "positions": "parameter"}),
    ("BertForMaskedLM", BERT | {"style": "apart", "kernel": "plain", "act": "relu", "norm": "own-layer"}),
    ("BertForMaskedLM", BERT | {"style": "single", "kernel": "einsum", "head_bias": False, "positions": "offset"}),
    ("BertForMaskedLM", BERT | {"tied": False, "eps": 1e-12, "act": "tanh-gelu", "bias": False}),
]

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 40}
GROUPED = SIZES | {"intermediate_size": 48, "num_key_value_heads": 2}
PAIRED = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
          "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}  # fmt: skip

# Models of transformers as if they were drawn: type, class, options, and what they are recognized as.
PUBLISHED: list[tuple[str, str, dict[str, Any], str | None]] = [
    ("gpt2", "GPT2LMHeadModel", {"n_embd": 32, "n_head": 4, "n_layer": 2}, "GPT2LMHeadModel"),
    ("llama", "LlamaForCausalLM", GROUPED, "LlamaForCausalLM"),
    ("mistral", "MistralForCausalLM", GROUPED | {"sliding_window": None}, "LlamaForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM", GROUPED, "Qwen2ForCausalLM"),
    ("qwen3", "Qwen3ForCausalLM", GROUPED | {"head_dim": 8}, "Qwen3ForCausalLM"),
    ("gpt_neox", "GPTNeoXForCausalLM", SIZES | {"intermediate_size": 48}, "GPTNeoXForCausalLM"),
    ("opt", "OPTForCausalLM", SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32}, "OPTForCausalLM"),
    ("bert", "BertForMaskedLM", SIZES | {"intermediate_size": 48}, "BertForMaskedLM"),
    ("roberta", "RobertaForMaskedLM", SIZES | {"intermediate_size": 48}, "BertForMaskedLM"),
    ("distilbert", "DistilBertForMaskedLM", {"dim": 32, "n_heads": 4, "n_layers": 2}, "BertForMaskedLM"),
    ("electra", "ElectraForMaskedLM", SIZES | {"intermediate_size": 48, "embedding_size": 32}, "BertForMaskedLM"),
    ("bart", "BartForConditionalGeneration", PAIRED, "BartForConditionalGeneration"),
    ("t5", "T5ForConditionalGeneration", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
     "T5ForConditionalGeneration"),
    ("gptj", "GPTJForCausalLM", {"n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4}, None),
    ("gemma", "GemmaForCausalLM", GROUPED | {"head_dim": 8}, None),
    ("gemma2", "Gemma2ForCausalLM", GROUPED | {"head_dim": 8}, None),
    ("bloom", "BloomForCausalLM", {"hidden_size": 32, "n_head": 4, "n_layer": 2}, None),
    ("olmo", "OlmoForCausalLM", SIZES | {"intermediate_size": 48}, None),
    ("albert", "AlbertForMaskedLM", SIZES | {"intermediate_size": 48, "embedding_size": 32}, None),
    ("mpnet", "MPNetForMaskedLM", SIZES | {"intermediate_size": 48}, None),
]  # fmt: skip

PAIR_IDS = {"pad_token_id": 0, "decoder_start_token_id": 0}

PAIRS: list[tuple[str, dict[str, Any]]] = [
    ("BartForConditionalGeneration", BART),
    ("BartForConditionalGeneration", BART | {"embedding_scale": 4.0, "act": "relu", "norm": "own-layer"}),
    ("MBartForConditionalGeneration", BART | {"place": "pre", "final": True}),
    ("BlenderbotForConditionalGeneration", {"place": "pre", "final": True, "bias": False}),
    ("PegasusForConditionalGeneration", {"place": "pre", "final": True, "positions": "waves", "act": "relu"}),
    ("MarianMTModel", {"positions": "waves", "embedding_scale": 4.0, "act": "silu"}),
    ("T5ForConditionalGeneration", T5),
    ("T5ForConditionalGeneration", T5 | {"buckets": 8, "gated": "two", "act": "tanh-gelu", "norm": "own-rms"}),
    ("T5ForConditionalGeneration", T5 | {"raw": False, "tied": True, "last_scale": 0.25, "head_size": 6}),
]

MISSED_PAIRS: list[tuple[str, dict[str, Any], str]] = [
    ("a norm more at the end", BART | {"final": True}, "would be a BART if it had no further norm at the end"),
    ("no norm of embeddings", {}, "would be a BART if its embeddings were normalized"),
    ("another epsilon", BART | {"eps": 1e-6}, "would be a BART if the epsilon of its norms were 1e-05"),
    ("a head of its own", BART | {"tied": False}, "would be a BART if its head were the token embedding"),
    ("an odd scale of embeddings", BART | {"embedding_scale": 3.0}, "would be a BART if its token embedding were not"),
    ("a T5 with biases", T5 | {"bias": True}, "would be a T5 if its layers had no biases"),
    ("a T5 with LayerNorm", T5 | {"norm": "layer"}, "would be a T5 if its norms were RMSNorm without bias"),
    ("a T5 with a tied head as it is", T5 | {"tied": True}, "would be a T5 if its last state were divided"),
]

# What is odd, the drawing, and a part of the reason.
NEAR_MISSES: list[tuple[str, dict[str, Any], str]] = [
    ("a bias in the norms", LLAMA | {"norm": "rms-bias"}, "would be a Llama if its norms had no bias"),
    ("a bias in the head", GPT | {"head_bias": True, "tied": False}, "would be a GPT-2 if its head had no bias"),
    ("no positions", GPT | {"positions": "none"}, "if it had learned positions"),
    ("fixed waves", GPT | {"positions": "waves"}, "if "),
    ("positions from the end", GPT | {"positions": "reversed"}, ""),
    ("positions that multiply", GPT | {"positions": "product"}, ""),
    ("variance of a sample", GPT | {"norm": "unbiased"}, ""),
    ("epsilon beside the deviation", GPT | {"norm": "deviation"}, ""),
    ("division by the length", LLAMA | {"norm": "length"}, ""),
    ("no norms", GPT | {"norm": "none"}, ""),
    ("no last norm", GPT | {"final": False}, "if its norms came before each part and at the end"),
    ("no last norm in a Llama", LLAMA | {"final": False}, "if its norms came before each part and at the end"),
    ("a norm after as well", GPT | {"place": "sandwich"}, ""),
    ("the network first", GPT | {"place": "swapped"}, "if each block were attention, then a feed-forward network"),
    ("one norm for both", NEOX | {"place": "shared"}, "if each part had a norm of its own before it"),
    ("a network without norm", GPT | {"bare_net": True}, ""),
    ("half of a residual", GPT | {"residual": 0.5}, ""),
    ("a learned residual", GPT | {"rezero": True}, ""),
    ("slopes on the scores", GPT | {"kernel": "plain", "alibi": True}, "if nothing were added to its attention scores"),
    ("a learned temperature", GPT | {"kernel": "plain", "temperature": True}, ""),
    ("capped scores", GPT | {"kernel": "plain", "cap": 5.0}, ""),
    ("a sink", GPT | {"kernel": "plain", "sink": True}, ""),
    ("a window", GPT | {"window": 4}, "neither causal nor over all tokens"),
    ("a window in a Llama", LLAMA | {"window": 5}, "neither causal nor over all tokens"),
    ("a window longer than the recorded pass", GPT | {"window": 16}, "differ"),
    ("attention to the future", GPT | {"causal": False}, "if its attention were causal"),
    ("rotated values", LLAMA | {"rotate_values": True}, ""),
    ("queries and keys rotated differently", LLAMA | {"rotary_k": "pairs"}, "not rotated alike"),
    ("no rotation", LLAMA | {"rotary": "mirror"}, ""),
    ("a part of each head rotated", LLAMA | {"part": 0.5}, "would be a Llama if whole heads were rotated"),
    ("learned positions too", LLAMA | {"positions": "learned"}, "would be a Llama if it had no learned positions"),
    ("no gate", LLAMA | {"gated": ""}, "would be a Llama if its feed-forward network had a gate"),
    ("a gate in a GPT-2", GPT | {"gated": "two"}, "no gate"),
    ("LayerNorm in a Llama", LLAMA | {"norm": "layer"}, "no gate"),
    ("another activation", GPT | {"act": "softsign"}, ""),
    ("a norm within the network", GPT | {"inner_norm": "layer"}, ""),
    ("other epsilons", GPT | {"uneven": True}, "if all its norms had the same epsilon"),
    ("other epsilons in a Llama", LLAMA | {"uneven": True, "eps": 1e-6}, "if all its norms had the same epsilon"),
    ("scaled embeddings", GPT | {"embedding_scale": 4.0}, "if its token embedding were not scaled"),
    ("normalized embeddings", GPT | {"start_norm": "layer"}, "if its embeddings were not normalized"),
    ("two layers at the end", GPT | {"double_head": True}, ""),
    ("capped logits", GPT | {"logit_cap": True}, ""),
    ("scaled logits", GPT | {"logit_scale": 0.5}, ""),
    ("norms of heads with a bias", LLAMA | {"head_norm": "layer", "style": "apart"}, ""),
    ("a BERT without the layer before its head", BERT | {"transform": ""}, "would be a BERT if its head had a layer"),
    ("a BERT with norms before", BERT | {"place": "pre", "final": True}, "its norms came after each part"),
    ("a BERT without norm of embeddings", BERT | {"start_norm": ""}, "would be a BERT if its embeddings were norm"),
    ("a BERT that sees no future", BERT | {"causal": True}, "would be a BERT if its attention were over all tokens"),
]  # fmt: skip


def drawing(options: dict[str, Any]) -> Adapter:
    torch.manual_seed(0)
    is_masked = "transform" in options
    kind, task = ("encoder-only", "masked_lm") if is_masked else ("decoder-only", "causal_lm")
    contract = Contract(
        kind, task, "input_ids", vocab_size=VOCABULARY, output_size=VOCABULARY, max_length=LONGEST, pad_token_id=0
    )
    return Adapter(Drawing(**options), contract).eval()


def assert_equal_when_loaded(adapter: Adapter, candidate: Candidate, folder: Path) -> None:
    """The weights go through a folder of transformers and come back with the same logits."""
    model: Any = build(candidate)
    assert load_weights(model, candidate, dict(adapter.named_parameters())) == ""
    model.save_pretrained(folder)
    loaded, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"]
    ids = {"input_ids": torch.randint(1, VOCABULARY, (2, 9))}
    if adapter.contract.decoder_ids_argument:
        ids["decoder_input_ids"] = torch.randint(1, VOCABULARY, (2, 7))
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(**ids).logits, adapter(**ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("architecture", "options"), DRAWINGS, ids=lambda item: item if isinstance(item, str) else "")
def test_a_drawing_is_recognized_in_any_hand(architecture: str, options: dict[str, Any], tmp_path: Path) -> None:
    found = recognize(drawing(options), 0)
    assert found.candidate is not None, found.reason
    assert found.candidate.architecture == architecture
    assert_equal_when_loaded(drawing(options), found.candidate, tmp_path)


@pytest.mark.parametrize(("what", "options", "reason"), NEAR_MISSES, ids=[item[0] for item in NEAR_MISSES])
def test_a_near_miss_is_not_claimed_and_named(what: str, options: dict[str, Any], reason: str) -> None:
    found = recognize(drawing(options), 0)
    assert found.candidate is None
    assert reason in found.reason


def pair(options: dict[str, Any]) -> Adapter:
    torch.manual_seed(0)
    contract = Contract(
        "encoder-decoder",
        "seq2seq_lm",
        "input_ids",
        vocab_size=VOCABULARY,
        output_size=VOCABULARY,
        max_length=LONGEST,
        pad_token_id=0,
        decoder_ids_argument="decoder_input_ids",
    )
    return Adapter(Pair(**options), contract).eval()


@pytest.mark.parametrize(("architecture", "options"), PAIRS, ids=lambda item: item if isinstance(item, str) else "")
def test_an_encoder_decoder_is_recognized(architecture: str, options: dict[str, Any], tmp_path: Path) -> None:
    found = recognize(pair(options), 0, PAIR_IDS)
    assert found.candidate is not None, found.reason
    assert found.candidate.architecture == architecture
    assert_equal_when_loaded(pair(options), found.candidate, tmp_path)


@pytest.mark.parametrize(("what", "options", "reason"), MISSED_PAIRS, ids=[item[0] for item in MISSED_PAIRS])
def test_a_near_miss_of_an_encoder_decoder_is_named(what: str, options: dict[str, Any], reason: str) -> None:
    found = recognize(pair(options), 0, PAIR_IDS)
    assert found.candidate is None
    assert reason in found.reason


@pytest.mark.parametrize(("kind", "name", "options", "architecture"), PUBLISHED, ids=[item[0] for item in PUBLISHED])
def test_a_published_architecture_is_recognized_from_what_it_computes(
    kind: str, name: str, options: dict[str, Any], architecture: str | None
) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "use_cache": False}
    model = getattr(transformers, name)(transformers.AutoConfig.for_model(kind, **sizes, **options))
    is_pair, is_masked = "Conditional" in name, "Masked" in name
    roles = ("encoder-decoder", "seq2seq_lm") if is_pair else ("decoder-only", "causal_lm")
    contract = Contract(
        *(("encoder-only", "masked_lm") if is_masked else roles),
        "input_ids",
        vocab_size=VOCABULARY,
        output_size=VOCABULARY,
        max_length=LONGEST,
        output="attribute",
        logits_key="logits",
        mask_argument="attention_mask",
        mask_meaning="real",
        decoder_ids_argument="decoder_input_ids" if is_pair else None,
    )
    found = recognize(Adapter(model.eval(), contract), 0, PAIR_IDS if is_pair else {"pad_token_id": 0})
    assert (found.candidate and found.candidate.architecture) == architecture, found.reason


def test_a_proof_prints_no_advice_of_transformers(capfd: pytest.CaptureFixture[str]) -> None:
    assert recognize(drawing(GPT), 0, {"pad_token_id": 0, "eos_token_id": 2}).candidate is not None
    assert capfd.readouterr() == ("", "")
