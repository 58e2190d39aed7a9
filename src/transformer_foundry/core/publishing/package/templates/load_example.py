"""Load this model and answer a text: ``python load_example.py [TEXT]``.

Needs torch, safetensors, tokenizers to read and write text, and the files of this folder, which it verifies (not with
``--no-verify``).
As a module: ``from load_example import load_model``; ``load_model()(input_ids=...)`` returns logits.
"""

from __future__ import annotations

import os
import sys

# A file of this folder must not stand for a library: nothing is imported from it before it is verified.
_HERE = {os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.realpath(__file__))}
_PATHS = list(sys.path)
sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in _HERE]

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

try:
    import torch
    from safetensors import safe_open
    from torch import Tensor, nn
except ImportError as err:
    if __name__ != "__main__":
        raise
    sys.exit(f"{err}. This program needs: pip install torch safetensors tokenizers")

if __name__ != "__main__":
    sys.path[:] = _PATHS

_USED = ("load_example.py", "export_config.json", "model.safetensors", "tokenizer.json")
# Not resolved: in the Hub's cache the files are links to another folder.
FOLDER = Path(__file__).absolute().parent
NEW_TOKENS = 40
TEMPERATURE, TOP_K, SEED = 0.8, 40, 0


class PackageError(ValueError):
    """What verifies the files of the package is missing or damaged."""


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


def load_model(folder: Path = FOLDER, *, check: bool = True) -> Model:
    """Build the model from ``model.py`` and ``export_config.json`` and fill it from ``model.safetensors``.

    Args:
        folder: The folder of the package.
        check: Whether the files are compared with their digests in the manifest, before any of them is used.

    Raises:
        PackageError: If a file is missing or damaged.
    """
    files = _verified(folder, check)
    manifest = files.read_manifest(folder)
    if check:
        files.verify(folder, manifest, _USED)
    config = files.read_json(folder / "export_config.json")
    code, call = (
        files.VerifiedCode(folder, manifest, check=check).load(name) for name in ("model.py", "model_call.py")
    )
    model: nn.Module = call.construct(manifest["model"]["expression"], vars(code), config)
    _load_weights(model, folder / "model.safetensors")
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            # In evaluation mode nested tensors would cut the output to the longest real row.
            module.enable_nested_tensor = module.use_nested_tensor = False
    contract = SimpleNamespace(**manifest["model"]["contract"])
    return Model(model, contract, call).eval()


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


def _verified(folder: Path, check: bool) -> ModuleType:
    """Return the module verify_files.py, run from the bytes that the manifest lists; it verifies everything else."""
    path = folder / "verify_files.py"
    try:
        source = path.read_bytes()
        if check and hashlib.sha256(source).hexdigest() != _listed(folder, path.name):
            raise ValueError("it is damaged")
        module = sys.modules["verify_files"] = ModuleType("verify_files")
        module.__file__ = str(path)
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except (ArithmeticError, LookupError, OSError, RecursionError, SyntaxError, TypeError, ValueError) as err:
        problem = f"verify_files.py or manifest.json in {folder} cannot be read ({type(err).__name__}: {err})"
        raise PackageError(f"{' '.join(problem.split())[:300]}; download the package again.") from err
    return module


def _listed(folder: Path, name: str) -> object:
    return json.loads((folder / "manifest.json").read_bytes())["files"][name]["sha256"]


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

    def encode(self, text: str | None, pair: str | None = None) -> list[int]:
        """Return the ids of ``text``, of two texts, or those of the prompt that comes with the model."""
        if text is None:
            return list(self.prompt["input_ids"])
        if self.backend is None:
            raise SystemExit("Reading a text requires tokenizers: pip install tokenizers")
        begin = self.special["document_start"] if self.prompt["begins_document"] else None
        # tokenizer.json adds what frames a complete text; a text to continue only has a beginning.
        ids = list(self.backend.encode(text, pair, add_special_tokens=begin is None).ids)
        return ids if begin is None else [begin, *ids]

    def show(self, ids: list[int]) -> str:
        """Return the text of ``ids``."""
        return " ".join(map(str, ids)) if self.backend is None else str(self.backend.decode(ids))


@torch.no_grad()
def answer(model: Model, text: Text, ids: list[int], label_names: list[str] | None = None) -> str:
    """Return the model's answer to ``ids``: a continuation, a translation, guesses for a token, labels or a number."""
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
    scores = model(_row(ids), torch.ones(1, len(ids)).long())[0].float()
    if task == "regression":
        return f"{float(scores[0]):.4g}"
    if task == "multi_label_classification":
        best = (scores > 0).nonzero().flatten().tolist()
        if not best:
            return "none"
    else:
        best = scores.argmax(-1).reshape(-1).tolist()
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
    arguments = [text for text in sys.argv[1:] if text != "--no-verify"]
    check = len(arguments) == len(sys.argv) - 1
    if not check:
        print("warning: the files of the package are not verified (--no-verify).", file=sys.stderr)
    try:
        files = _verified(FOLDER, check)
        manifest = files.read_manifest(FOLDER)
        model, text = load_model(check=check), Text(manifest)
        ids = text.encode(*arguments[:2]) if arguments else text.encode(None)
        if not ids:
            sys.exit("There is no word in this text. Expected one at least.")
        answered = answer(model, text, ids, manifest["label_names"])
    except Exception as err:  # the libraries raise bare exceptions for damaged files
        sys.exit(_reason(err))
    print("prompt:", files.one_line(text.show(ids)))
    print("answer:", "\n".join(map(files.one_line, answered.split("\n"))))


def _reason(err: Exception) -> str:
    if type(err).__name__ == "PackageError":
        return str(err)
    what = " ".join(str(err).split())[:300]
    return (
        f"The model in {FOLDER} cannot be loaded ({type(err).__name__}: {what}); every file of the package must be "
        "there as it was published: download it again."
    )


if __name__ == "__main__":
    main()
