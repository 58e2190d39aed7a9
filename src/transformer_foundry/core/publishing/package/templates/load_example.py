"""Load this model and answer a text: ``python load_example.py [TEXT]``.

Needs torch, safetensors, tokenizers to read and write text, and the files of this folder.
As a module: ``from load_example import load_model``; ``load_model()(input_ids=...)`` returns logits.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

try:
    import torch
    from safetensors import SafetensorError, safe_open
    from torch import Tensor, nn
except ImportError as err:
    if __name__ != "__main__":
        raise
    sys.exit(f"{err}. This program needs: pip install torch safetensors tokenizers")

# Not resolved: in the Hub's cache the files are links to another folder.
FOLDER = Path(__file__).absolute().parent
NEW_TOKENS = 40
TEMPERATURE, TOP_K, SEED = 0.8, 40, 0


class Model(nn.Module):
    """The model behind one signature: named tensors in, logits out."""

    def __init__(self, model: nn.Module, contract: Any, call: ModuleType) -> None:
        super().__init__()
        self.model, self.contract, self.call = model, contract, call

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the logits; ids are (B, T) int64, masks (B, T) int64 with 1 where a token is real."""
        given = (input_ids, attention_mask, decoder_input_ids, decoder_attention_mask)
        arguments = self.call.call_arguments(self.contract, *given)
        logits: Tensor = self.call.pick_logits(self.contract, self.model(**arguments))
        return logits


def load_model(folder: Path = FOLDER) -> Model:
    """Build the model from ``model.py`` and ``export_config.json`` and fill it from ``model.safetensors``."""
    manifest = _read_json(folder / "manifest.json")
    code = _import(folder / "model.py", "model")
    names = {"config": _read_json(folder / "export_config.json")}
    model: nn.Module = eval(manifest["model"]["expression"], code.__dict__, names)
    _load_weights(model, folder / "model.safetensors")
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            # In evaluation mode nested tensors would cut the output to the longest real row.
            module.enable_nested_tensor = module.use_nested_tensor = False
    contract = SimpleNamespace(**manifest["model"]["contract"])
    return Model(model, contract, _import(folder / "model_call.py", "model_call")).eval()


def _load_weights(model: nn.Module, path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # Tied tensors are stored once, under one of their names.
        saved |= {name: saved[kept] for name, kept in json.loads(file.metadata()["aliases"]).items()}
    state = model.state_dict()
    expected = state | dict(model.named_buffers())
    if unknown := (state.keys() - saved.keys()) | (saved.keys() - expected.keys()):
        raise ValueError(f"model.safetensors does not fit model.py: {', '.join(sorted(unknown))}")
    with torch.no_grad():
        for name, value in saved.items():
            # A constant buffer made by expand() cannot be written to, and need not be.
            if not torch.equal(expected[name], value):
                expected[name].copy_(value)


def _import(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class Text:
    """Converts text to ids and back; without the tokenizers library, ids are shown as numbers."""

    def __init__(self, manifest: dict[str, Any], folder: Path = FOLDER) -> None:
        self.prompt, self.special = manifest["prompt"], manifest["special_token_ids"]
        try:
            from tokenizers import Tokenizer
        except ImportError:
            self.backend = None
        else:
            self.backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.backend.encode_special_tokens = True

    def encode(self, text: str | None) -> list[int]:
        """Return the ids of ``text``, or those of the prompt that comes with the model."""
        if text is None:
            return list(self.prompt["input_ids"])
        if self.backend is None:
            raise SystemExit("Reading a text requires tokenizers: pip install tokenizers")
        begin = self.special["document_start"] if self.prompt["begins_document"] else None
        return ([] if begin is None else [begin]) + list(self.backend.encode(text).ids)

    def show(self, ids: list[int]) -> str:
        """Return the text of ``ids``."""
        return " ".join(map(str, ids)) if self.backend is None else str(self.backend.decode(ids))


@torch.no_grad()
def answer(model: Model, text: Text, ids: list[int], label_names: list[str] | None = None) -> str:
    """Return the model's answer to ``ids``: a continuation, a translation, guesses for a hidden token, or labels."""
    task, longest = model.contract.task, model.contract.max_length
    ids = ids[:longest]
    if task == "causal_lm":
        return text.show(_draw(lambda new: model(_row((ids + new)[-(longest or 0) :])), text.special["eos"]))
    if task == "seq2seq_lm":
        source, start = _row(ids), [text.special["decoder_start"]]
        # No decoder mask: all tokens so far are real.
        following = lambda new: model(source, torch.ones_like(source), _row(start + new))  # noqa: E731
        return text.show(_draw(following, text.special["eos"], min(NEW_TOKENS, longest or NEW_TOKENS)))
    if task == "masked_lm":
        return _guess(model, text, ids)
    best = model(_row(ids), torch.ones(1, len(ids)).long())[0].argmax(-1).reshape(-1).tolist()
    return " ".join(label_names[index] if label_names and index < len(label_names) else str(index) for index in best)


def _draw(logits_after: Callable[[list[int]], Tensor], end: int | None, limit: int = NEW_TOKENS) -> list[int]:
    """Sample one token after another until ``end``."""
    generator = torch.Generator().manual_seed(SEED)
    written: list[int] = []
    while len(written) < limit:
        logits = logits_after(written)[0, -1].float() / TEMPERATURE
        likeliest = logits.topk(min(TOP_K, len(logits)))
        drawn = torch.multinomial(likeliest.values.softmax(-1), 1, generator=generator)
        token = int(likeliest.indices[drawn])
        if token == end:
            break
        written.append(token)
    return written


def _guess(model: Model, text: Text, ids: list[int]) -> str:
    """Hide the middle token and return the model's guesses for it."""
    at, hidden = len(ids) // 2, list(ids)
    if text.special["mask"] is not None:
        hidden[at] = text.special["mask"]
    best = model(_row(hidden), torch.ones(1, len(ids)).long())[0, at].softmax(-1).topk(3)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    guesses = ", ".join(f"{text.show([token])!r} ({share:.0%})" for token, share in pairs)
    return f"for {text.show([ids[at]])!r}, the hidden token {at + 1} of {len(ids)}: {guesses}"


def _row(ids: list[int]) -> Tensor:
    return torch.tensor([ids])


def main() -> None:
    """Print the prompt and the model's answer."""
    try:
        manifest = _read_json(FOLDER / "manifest.json")
        text, model = Text(manifest), load_model()
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as err:
        sys.exit(
            f"The model in {FOLDER} cannot be loaded ({type(err).__name__}: {err}).\n"
            "Every file of the package must be there as it was published: download it again."
        )
    ids = text.encode(sys.argv[1] if len(sys.argv) > 1 else None)
    if not ids:
        sys.exit("There is no word in this text. Expected one at least.")
    print("prompt:", text.show(ids))
    print("answer:", answer(model, text, ids, manifest["label_names"]))


if __name__ == "__main__":
    main()
