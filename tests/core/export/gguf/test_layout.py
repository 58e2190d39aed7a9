"""The tensors and hyper-parameters of a GGUF file give the logits of the model, by llama.cpp's operations alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from tests.core.export.gguf.tiny import DECODERS, LONGEST, VOCABULARY, decoder, state_of
from transformer_foundry.core.export.gguf.file import difference, read_gguf, write_gguf
from transformer_foundry.core.export.gguf.layout import Layout, Unwritable, lay_out
from transformer_foundry.core.export.gguf.reference import GgufModel

gguf = pytest.importorskip("gguf")


def written(name: str, folder: Path) -> tuple[transformers.PreTrainedModel, Layout, Path]:
    model, path = decoder(name), folder / "model.gguf"
    layout = lay_out(model.config.model_type, model.config, state_of(model))
    write_gguf(path, layout.architecture, layout.metadata, layout.tensors)
    return model, layout, path


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_the_file_alone_gives_the_logits_of_the_model(name: str, tmp_path: Path) -> None:
    model, layout, path = written(name, tmp_path)
    ids = torch.randint(VOCABULARY, (3, LONGEST), generator=torch.Generator().manual_seed(1))
    found = GgufModel(path, exact_gelu=layout.has_exact_gelu).logits(ids)
    with torch.no_grad():
        expected = model(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("llama", {"rope.freq_base": 10000.0}),
        ("llama", {"attention.layer_norm_rms_epsilon": 1e-6}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("gpt_neox", {"rope.dimension_count": 8}),
        ("gpt2", {"attention.head_count": 2}),
    ],
)
def test_a_wrong_hyper_parameter_gives_other_logits(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    _, layout, path = written(name, tmp_path)
    ids = torch.randint(VOCABULARY, (1, LONGEST), generator=torch.Generator().manual_seed(1))
    expected = GgufModel(path).logits(ids)
    wrong = {f"{layout.architecture}.{key}": value for key, value in change.items()}
    write_gguf(path, layout.architecture, layout.metadata | wrong, layout.tensors)
    assert float((GgufModel(path).logits(ids) - expected).abs().max()) > 1e-2


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_every_tensor_has_a_name_that_llama_cpp_knows_for_the_architecture(name: str, tmp_path: Path) -> None:
    _, layout, path = written(name, tmp_path)
    kind = next(key for key, known in gguf.MODEL_ARCH_NAMES.items() if known == layout.architecture)
    known = {gguf.TENSOR_NAMES[item] for item in gguf.MODEL_TENSORS[kind]}
    for tensor in read_gguf(path)[1]:
        layer = tensor.rpartition(".")[0].split(".")
        assert ".".join([layer[0], "{bid}", *layer[2:]] if layer[0] == "blk" else layer) in known


@pytest.mark.parametrize("name", ["gpt2-untied", "llama", "qwen2"])
def test_transformers_reads_the_weights_of_the_model_from_the_file(name: str, tmp_path: Path) -> None:
    model, layout, path = written(name, tmp_path)
    tokens = [f"t{number}" for number in range(VOCABULARY)]
    more = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": tokens}
    write_gguf(path, layout.architecture, layout.metadata | more, layout.tensors)
    read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)["tensors"]
    for key, tensor in state_of(model).items():
        torch.testing.assert_close(read[key], tensor, rtol=0, atol=0, msg=key)


def test_what_differs_in_a_file_is_named(tmp_path: Path) -> None:
    _, layout, path = written("llama", tmp_path)
    assert difference(path, layout.architecture, layout.metadata, layout.tensors) == ""
    key, name = "llama.rope.freq_base", "blk.1.attn_k.weight"
    assert key in difference(path, "llama", layout.metadata | {key: 301.0}, layout.tensors)
    assert name in difference(path, "llama", layout.metadata, layout.tensors | {name: layout.tensors[name] + 1e-6})


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("gpt2", {"activation_function": "relu"}, "computes GELU in a gpt2 model, and this one has relu"),
        ("llama", {"hidden_act": "gelu_new"}, "computes silu in a llama model"),
        ("qwen3", {"attention_bias": True}, "no biases in the attention"),
        ("llama", {"model_type": "opt"}, "no architecture for a model of the type opt"),
    ],
)
def test_what_llama_cpp_would_compute_in_another_way_is_refused(
    name: str, options: dict[str, object], reason: str
) -> None:
    model = decoder(name)
    kind = str(options.pop("model_type", model.config.model_type))
    for key, value in options.items():
        setattr(model.config, key, value)
    with pytest.raises(Unwritable, match=reason):
        lay_out(kind, model.config, state_of(model))
