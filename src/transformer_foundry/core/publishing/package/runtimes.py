"""Other programs that run a package's native decoder: which of them have run it, and which follow from what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.export.files import GGUF_FILE, MODELFILE, NATIVE_FOLDER
from transformer_foundry.core.export.formats.table import GGUF_FORMAT

__all__ = ["describe_runtimes"]

_RUN, _FOLLOWS, _NO = "run", "follows from the architecture", "no"


@dataclass(frozen=True)
class _Runtime:
    """A program that reads a folder of transformers without code in it.

    Attributes:
        name: Its name.
        model_types: Types of configuration that it has, by its documentation or source.
        command: What starts it in the package.
    """

    name: str
    model_types: frozenset[str]
    command: str


_WITH_ROTATION = frozenset({"llama", "qwen2", "qwen3"})
_RUNTIMES = (
    _Runtime("vLLM", _WITH_ROTATION | {"gpt2", "gpt_neox", "opt"}, f"vllm serve {NATIVE_FOLDER}"),
    # mlx-lm 0.32 reads GPT-2 and GPT-NeoX under other names of the weights than transformers writes.
    _Runtime("MLX-LM", _WITH_ROTATION, f"mlx_lm.generate --model {NATIVE_FOLDER} --prompt TEXT"),
    _Runtime(
        "OpenVINO",
        _WITH_ROTATION | {"gpt2", "gpt_neox", "opt"},
        f"optimum-cli export openvino --model {NATIVE_FOLDER} --task text-generation-with-past openvino",
    ),
    _Runtime(
        "text-generation-inference",
        frozenset({"llama", "qwen2", "gpt2", "gpt_neox", "opt"}),
        f"text-generation-launcher --model-id {NATIVE_FOLDER}",
    ),
)


def describe_runtimes(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return ``runtime``, ``status`` and ``command`` of each program; empty if there is no native decoder.

    The status is ``run`` if the verification of this package ran it, ``follows from the architecture`` if the program
    has the architecture and was not run, and ``no``.

    Args:
        manifest: The manifest so far: ``model``, ``formats``, ``native``.
    """
    native = manifest.get("native") or {}
    if native.get("architecture") is None or manifest["model"]["task"] != "causal_lm":
        return []
    found = [item for item in manifest["formats"] if item["format"] == GGUF_FORMAT]
    entry: Mapping[str, Any] = found[0] if found else {"status": "failed"}
    has_file, ran = entry["status"] == "verified", entry.get("llama_cpp")
    how = f"{_RUN}: llama-cpp-python {ran['version']}, {ran['texts']} texts, {ran['prompts']} prompts" if ran else ""
    rows = [
        ("llama.cpp", (how or _FOLLOWS) if has_file else _NO, f"llama-completion -m {GGUF_FILE} -p TEXT"),
        ("Ollama", _FOLLOWS if has_file else _NO, f"ollama create NAME -f {MODELFILE}"),
    ]
    kind = native["model_type"]
    rows += [(item.name, _FOLLOWS if kind in item.model_types else _NO, item.command) for item in _RUNTIMES]
    return [
        {"runtime": name, "status": status, "command": "" if status == _NO else command}
        for name, status, command in rows
    ]
