"""llama.cpp reads the files as the native model's; what it reads in another way is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.core.export.gguf.tiny import DECODERS, native_folder
from transformer_foundry.core.export.gguf.file import read_gguf, write_gguf
from transformer_foundry.core.export.gguf.llama_cpp import TEXTS, compare_with_native, has_llama_cpp, run_in_llama_cpp

pytest.importorskip("gguf")
needs_llama_cpp = pytest.mark.skipif(not has_llama_cpp(), reason="llama-cpp-python is not installed")


def test_the_texts_on_which_llama_cpp_is_compared_are_twenty_different_ones() -> None:
    assert len(set(TEXTS)) == len(TEXTS) == 20


def test_a_library_that_cannot_be_loaded_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    assert list(compare_with_native(tmp_path)) == ["unusable"]


@needs_llama_cpp
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_llama_cpp_has_the_tokens_and_the_continuations_of_the_native_model(name: str, tmp_path: Path) -> None:
    native_folder(name, tmp_path)
    found = compare_with_native(tmp_path)
    assert (found["problem"], found["texts"], found["prompts"]) == ("", 20, 5)
    assert found["new_tokens"] > 50
    assert found["max_abs_error"] < 3e-3


@needs_llama_cpp
def test_another_pre_tokenizer_is_seen_in_llama_cpp(tmp_path: Path) -> None:
    native_folder("llama", tmp_path, pre="qwen2")
    assert "other tokens" in compare_with_native(tmp_path)["problem"]


@needs_llama_cpp
def test_queries_in_the_order_of_transformers_are_seen_in_llama_cpp(tmp_path: Path) -> None:
    layout = native_folder("llama", tmp_path)
    metadata, tensors = read_gguf(tmp_path / "model.gguf")
    metadata.pop("general.architecture")
    name = "blk.0.attn_q.weight"
    halves = tensors[name].unflatten(0, (4, -1, 2)).transpose(1, 2).flatten(0, 2)
    write_gguf(tmp_path / "model.gguf", layout.architecture, metadata, tensors | {name: halves})
    assert "its logits differ by" in compare_with_native(tmp_path)["problem"]


@needs_llama_cpp
def test_a_file_that_llama_cpp_refuses_is_a_problem_and_not_a_crash(tmp_path: Path) -> None:
    native_folder("llama", tmp_path, pre="unheard-of")
    assert "ValueError" in run_in_llama_cpp(tmp_path)["problem"]
