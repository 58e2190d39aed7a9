"""Use this model with ONNX Runtime, without torch: ``python inference.py [TEXT]``.

Needs the packages in ``requirements.txt`` and the files of this folder, which it verifies. As a module::

    from inference import Model

    model = Model()
    print(model.answer("A text"))
"""

from __future__ import annotations

import os
import sys

# A file of this folder must not stand for a library: nothing is imported from it before it is verified.
_HERE = {os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.realpath(__file__))}
_PATHS = list(sys.path)
sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in _HERE]

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    import numpy as np
    import onnxruntime
    import tokenizers  # noqa: F401 (for text_encoding.py)
except ImportError as err:
    raise SystemExit(f"{err.name} is missing: pip install -r requirements.txt") from err

if __name__ != "__main__":
    sys.path[:] = _PATHS


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
        raise SystemExit(f"{' '.join(problem.split())[:300]}; download the package again.") from err
    return module


def _listed(folder: Path, name: str) -> object:
    return json.loads((folder / "manifest.json").read_bytes())["files"][name]["sha256"]


# Not resolved: in the Hub's cache the files are links to another folder.
FOLDER = Path(__file__).absolute().parent
_files = _verified(FOLDER, "--no-verify" not in sys.argv)
PackageError, one_line, plain_name = _files.PackageError, _files.one_line, _files.plain_name
read_manifest, verify = _files.read_manifest, _files.verify
try:
    _code = _files.VerifiedCode(FOLDER, read_manifest(FOLDER), check="--no-verify" not in sys.argv)
    _text, _generation = _code.load("text_encoding.py"), _code.load("text_generation.py")
except PackageError as err:
    raise SystemExit(str(err)) from err
EMPTY, InputError, TextEncoding = _text.EMPTY, _text.InputError, _text.TextEncoding
Generated, GrowingText, draw = _generation.Generated, _generation.GrowingText, _generation.draw

# A text, two texts, or the example of the package.
Given = str | Sequence[str] | None

__all__ = ["Generated", "InputError", "Model", "PackageError"]

NEW_TOKENS, TEMPERATURE, TOP_K = 40, 0.8, 40
BATCH_ROWS = 8
WRITING_TASKS = ("causal_lm", "seq2seq_lm")
TEXT_TASKS = ("sequence_classification", "multi_label_classification", "regression")


class Model:
    """The model of this folder: an ONNX file, its tokenizer, and their settings from ``manifest.json``.

    Args:
        folder: The folder of the package.
        file: Name of the ONNX file; by default the one with a cache for generation, else the one in full precision,
            else the first there is.
        threads: Threads of ONNX Runtime; 0 takes all cores.
        check: Whether the files are compared with their digests in the manifest.

    Raises:
        PackageError: If a file of the package is missing, damaged or cannot be loaded.
        InputError: If there is no such ONNX file.
    """

    def __init__(
        self, folder: str | Path = FOLDER, file: str | None = None, threads: int = 0, *, check: bool = True
    ) -> None:
        folder = Path(folder)
        self.manifest: dict[str, Any] = read_manifest(folder)
        try:
            self._read_settings()
            self.file, self._past_shape = _choose_file(self.manifest, file)
            if check:
                verify(folder, self.manifest, _files_of(self.manifest, self.file))
            self._load(folder, threads)
        except InputError:
            raise
        except PackageError:
            raise
        except Exception as err:  # the libraries raise bare exceptions for damaged files
            raise PackageError(f"the package in {folder} cannot be used ({type(err).__name__}: {err})") from err

    def _load(self, folder: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = str(folder / self.file)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        given = (folder / "tokenizer.json", self._encoding, self.task, self.max_length, self.special["mask"])
        self.text = TextEncoding(*given)

    def _read_settings(self) -> None:
        """Take the settings out of the manifest; each must have the type that it is used with."""
        contract, encoding = self.manifest["model"]["contract"], self.manifest["encoding"]
        self.name = one_line(_typed(self.manifest["model"]["name"], str), 200)
        self.task: str = _typed(contract["task"], str)
        self.max_length: int | None = _typed(contract["max_length"], int, optional=True)
        special = _typed(self.manifest["special_token_ids"], dict)
        self.special: dict[str, int | None] = {
            name: _typed(special[name], int, optional=True) for name in ("pad", "eos", "mask", "decoder_start")
        }
        self.label_names: list[str] = _typed_list(self.manifest["label_names"] or [], str)
        self.longest_text: int = _typed(encoding["longest_text"], int)
        self._encoding: dict[str, Any] = {
            "prefix": _typed_list(encoding["prefix"], int),
            "suffix": _typed_list(encoding["suffix"], int),
            "mask_text": _typed(encoding["mask_text"], str, optional=True),
            "mask_takes_space": _typed(encoding["mask_takes_space"], bool),
            "reads_pairs": _typed(encoding["reads_pairs"], bool),
            "longest_text": self.longest_text,
        }
        prompt = self.manifest["prompt"]
        self.prompt_text = _typed(prompt["text"], str)
        self._prompt_ids = _typed_list(prompt["input_ids"], int)

    def generate(self, text: str | None = None, **settings: Any) -> Any:
        """Continue ``text``, or answer it with an encoder-decoder; return it as ``Generated``.

        Args and errors are those of ``stream``.
        """
        pieces = self.stream(text, **settings)
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return end.value

    def stream(
        self,
        text: str | None = None,
        *,
        max_new_tokens: int = NEW_TOKENS,
        temperature: float = TEMPERATURE,
        top_k: int | None = TOP_K,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
        seconds: float | None = None,
    ) -> Generator[str, None, Any]:
        """Return an iterator over the pieces of the new text, one for each token; it returns ``Generated``.

        A piece is empty until the text is certain: a character may have several tokens.

        Args:
            text: Text to continue or to turn into another text; None takes the package's example.
            max_new_tokens: Largest number of new tokens.
            temperature: Sampling temperature; 0 takes the most likely token each time.
            top_k: Sample among this many most likely tokens; None samples among all.
            top_p: Sample among the fewest most likely tokens that have this share of the probability, 0 to 1.
            stop: Texts before the first of which the new text ends.
            seed: Seed of the samples.
            seconds: Stop after this time.

        Raises:
            InputError: If the model does not generate text, or a setting is out of range.
        """
        if self.task not in WRITING_TASKS:
            raise InputError(f"This model does not write text (its task is {self.task}); use predict.")
        if max_new_tokens < 1 or not 0 <= temperature < float("inf") or (top_k is not None and top_k < 1):
            raise InputError("max_new_tokens and top_k must be at least 1, temperature finite and not below 0.")
        if not 0 <= top_p <= 1 or "" in stop:
            raise InputError("top_p must be from 0 to 1, and a text to stop at must not be empty.")
        ids = list(self._prompt_ids) if text is None else self.text.encode(text)
        limit = max_new_tokens
        if self.task == "seq2seq_lm" and self.max_length is not None:
            limit = min(limit, self.max_length)
        stop_at = None if seconds is None else time.monotonic() + seconds
        grown = GrowingText(self.text.decode, self.text.name, stop)
        generator = np.random.default_rng(seed)
        return self._write(ids, grown, limit, stop_at, lambda row: draw(row, temperature, top_k, top_p, generator))

    def _write(
        self, ids: list[int], grown: Any, limit: int, stop_at: float | None, choose: Callable[[np.ndarray], int]
    ) -> Generator[str, None, Any]:
        stopped = "length"
        for logits in self._next_logits(ids, grown.ids, limit):
            token = choose(logits)
            if token == self.special["eos"]:
                stopped = "end"
                break
            yield grown.add(token)
            if grown.is_stopped:
                break
            if stop_at is not None and time.monotonic() > stop_at:
                stopped = "time"
                break
        yield grown.finish()
        return Generated(grown.text, grown.ids, "stop" if grown.is_stopped else stopped, len(ids))

    def _next_logits(self, ids: list[int], written: list[int], limit: int) -> Iterator[np.ndarray]:
        """Yield the logits after what is written so far, ``limit`` times."""
        start = self.special["decoder_start"]
        past: np.ndarray | None = None
        for _ in range(limit):
            if self.task == "seq2seq_lm":
                yield self._run([ids], [[0 if start is None else start, *written]])[0, -1]
                continue
            # The model reads the last max_length tokens; when the first one leaves, all positions change.
            row = [*ids, *written][-(self.max_length or 0) :]
            if self._past_shape is None:
                yield self._run([row])[0, -1]
                continue
            fits = len(row) == len(ids) + len(written)
            logits, past = self._step(row[-1:], past) if fits and past is not None else self._step(row, None)
            yield logits

    def _step(self, new: list[int], past: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits after ``new`` tokens, and the keys and values of all tokens so far."""
        seen = np.zeros(self._past_shape or [], dtype=np.float32) if past is None else past
        logits, present = self._session.run(None, {"input_ids": np.array([new], dtype=np.int64), "past": seen})
        return np.asarray(logits[0, -1], dtype=np.float32), present

    def predict(self, texts: Sequence[Given], top_k: int = 5, *, seconds: float | None = None) -> list[Any]:
        """Return for each text, or pair of texts, the result of ``fill_mask`` or ``classify``, by the model's task.

        Raises:
            InputError: If the model writes text, one of the texts cannot be used, or it takes more than ``seconds``.
        """
        if top_k < 1:
            raise InputError("top_k must be at least 1.")
        if self.task == "masked_lm":
            return self.fill_mask([text if text is None else str(text) for text in texts], top_k, seconds=seconds)
        if self.task in (*TEXT_TASKS, "token_classification"):
            return self.classify(texts, top_k, seconds=seconds)
        raise InputError(f"This model writes text (its task is {self.task}); use generate.")

    def fill_mask(
        self, texts: Sequence[str | None], top_k: int = 5, *, seconds: float | None = None
    ) -> list[list[dict[str, Any]]]:
        """Return the most likely values of each hidden token of each text.

        Args:
            texts: Each with at least one hidden token, written ``[MASK]`` or ``<mask>``; None takes the package's
                example with its middle token hidden.
            top_k: Guesses for each hidden token.
            seconds: Give up after this time, between two calls of the model.

        Returns:
            For each text and each hidden token ``position``, and ``guesses``: ``token``, ``id``, ``score``.
        """
        rows = [self._hide_one() if text is None else self.text.hidden_ids(text) for text in texts]
        answers = []
        for ids, logits in zip(rows, self._rows_of_logits(rows, seconds), strict=True):
            places = [place for place, number in enumerate(ids) if number == self.special["mask"]]
            answers.append([{"position": at, "guesses": self._guesses(logits[at], top_k)} for at in places])
        return answers

    def classify(
        self, texts: Sequence[Given], top_k: int = 5, *, seconds: float | None = None
    ) -> list[list[dict[str, Any]]]:
        """Return the most likely labels of each text, its number, or the most likely label of each of its tokens.

        Args:
            texts: Texts, or pairs of texts for a model that reads pairs; None takes the package's example.
            top_k: Labels of each text.
            seconds: Give up after this time, between two calls of the model.

        Returns:
            For each text ``label`` and ``score`` of the most likely labels (where a text may have several, each applies
            if its score is above 0.5), or ``value``; for a model that labels tokens, ``token``, ``label`` and ``score``
            of each token.
        """
        rows = [
            list(self._prompt_ids)
            if text is None
            else self.text.encode(text)
            if isinstance(text, str)
            else self.text.encode(*text)
            for text in texts
        ]
        answers: list[list[dict[str, Any]]] = []
        for ids, logits in zip(rows, self._rows_of_logits(rows, seconds), strict=True):
            if self.task == "regression":
                answers.append([{"value": float(logits[0])}])
            elif logits.ndim == 1:
                likely = _applying if self.task == "multi_label_classification" else _most_likely
                answers.append([{"label": self._label(at), "score": share} for at, share in likely(logits, top_k)])
            else:
                best = [_most_likely(scores, 1)[0] for scores in logits]
                named = [{"label": self._label(at), "score": share} for at, share in best]
                answers.append(
                    [{"token": self.text.token(number)} | name for number, name in zip(ids, named, strict=True)]
                )
        return answers

    def _label(self, index: int) -> str:
        return self.label_names[index] if index < len(self.label_names) else str(index)

    def _guesses(self, logits: np.ndarray, top_k: int) -> list[dict[str, Any]]:
        return [{"token": self.text.token(at), "id": at, "score": share} for at, share in _most_likely(logits, top_k)]

    def _hide_one(self) -> list[int]:
        ids = list(self._prompt_ids)
        ids[len(ids) // 2] = self.text.mask_id()
        return ids

    def _rows_of_logits(self, rows: list[list[int]], seconds: float | None) -> list[np.ndarray]:
        """Return the logits of each row; rows are padded to batches if the model takes an attention mask."""
        found: dict[int, np.ndarray] = {}
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        stop_at = None if seconds is None else time.monotonic() + seconds
        while order:
            if stop_at is not None and time.monotonic() > stop_at:
                raise InputError(f"The texts were not read within {seconds:g} seconds; send fewer or shorter texts.")
            together = [order.pop(0)]
            while order and len(together) < BATCH_ROWS and self._may_join(rows[order[0]], rows[together[0]]):
                together.append(order.pop(0))
            for number, logits in zip(together, self._run([rows[number] for number in together]), strict=True):
                found[number] = logits if logits.ndim == 1 else logits[: len(rows[number])]
        return [found[number] for number in range(len(rows))]

    def _may_join(self, row: list[int], first: list[int]) -> bool:
        return len(row) == len(first) or "attention_mask" in self._inputs

    def _run(self, rows: list[list[int]], decoder_rows: list[list[int]] | None = None) -> np.ndarray:
        pad = self.special["pad"] or 0
        ids, mask = _pad(rows, pad)
        given = {"input_ids": ids, "attention_mask": mask}
        if decoder_rows is not None:
            decoder_ids, decoder_mask = _pad(decoder_rows, pad)
            given |= {"decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask}
        return np.asarray(self._session.run(None, {name: given[name] for name in self._inputs})[0], dtype=np.float32)

    def answer(self, text: str | None = None, pair: str | None = None, **settings: Any) -> str:
        """Return the model's answer to ``text``, or to a pair, as readable text, whatever its task is."""
        if self.task in WRITING_TASKS:
            return str(self.generate(text, **settings).text)
        lines = []
        for item in self.predict([text if pair is None or text is None else (text, pair)])[0]:
            if "guesses" in item:
                guesses = ", ".join(f"{guess['token']!r} ({guess['score']:.0%})" for guess in item["guesses"])
                lines.append(f"hidden token {item['position'] + 1}: {guesses}")
            elif "value" in item:
                lines.append(f"{item['value']:.4g}")
            else:
                token = f"{item['token']!r}: " if "token" in item else ""
                lines.append(f"{token}{item['label']} ({item['score']:.0%})")
        return "\n".join(lines)


def _choose_file(manifest: dict[str, Any], wanted: str | None) -> tuple[str, list[int] | None]:
    """Return the ONNX file to run, and the shape of its cache before the first token if it has one."""
    entries = [entry for entry in manifest["formats"] if str(entry.get("file")).endswith(".onnx")]
    files = [plain_name(entry["file"]) for entry in entries]
    # Packages made before there was a cache have no such entry.
    cache = (manifest.get("native") or {}).get("cache") or {}
    cached = plain_name(cache["file"]) if cache.get("file") is not None else None
    if wanted is not None and wanted not in (*files, cached):
        raise InputError(
            f"There is no verified file {one_line(wanted, 100)} in this package, only {', '.join(files) or 'none'}."
        )
    if not files:
        raise InputError("This package has no verified ONNX file; manifest.json says why. Use load_example.py.")
    file = wanted or cached or ("model.onnx" if "model.onnx" in files else files[0])
    return file, _typed_list(cache["past"], int) if file == cached else None


def _files_of(manifest: dict[str, Any], file: str) -> list[str]:
    """Return the files that are read: the ONNX file, the separate file of its weights, and the tokenizer."""
    data = [name for name in manifest.get("files") or {} if name == f"{file}.data"]
    return ["inference.py", "text_encoding.py", "text_generation.py", "tokenizer.json", file, *data]


def _typed(value: Any, kind: type, *, optional: bool = False) -> Any:
    if (optional and value is None) or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise PackageError(f"manifest.json has {str(value)[:40]!r} where a value of type {kind.__name__} belongs")


def _typed_list(values: Any, kind: type) -> list[Any]:
    return [_typed(value, kind) for value in _typed(values, list)]


def _pad(rows: list[list[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    longest = max(len(row) for row in rows)
    ids = np.array([row + [pad] * (longest - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], dtype=np.int64)
    return ids, mask


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(shares / shares.sum())


def _most_likely(logits: np.ndarray, count: int) -> list[tuple[int, float]]:
    shares = _softmax(logits)
    return [(int(at), float(shares[at])) for at in np.argsort(-shares, kind="stable")[:count]]


def _applying(logits: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Return the labels with the highest probability; each applies or not, whatever the others do."""
    shares = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return [(int(at), float(shares[at])) for at in np.argsort(-shares, kind="stable")[:count]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Let this model answer a text.")
    parser.add_argument("text", nargs="?", help="by default the example that comes with the model")
    parser.add_argument("pair", nargs="?", help="the second text, for a model that reads two")
    parser.add_argument("--max-new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--temperature", type=float, default=TEMPERATURE, help="0: the most likely token each time")
    parser.add_argument("--top-k", type=int, default=TOP_K)
    parser.add_argument("--seed", type=int, help="makes the answer repeatable")
    parser.add_argument("--file", help="ONNX file to use, such as model.onnx")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the files with their digests")
    return parser.parse_args()


def main() -> int:
    """Print the text and the model's answer; return the exit code."""
    given = _arguments()
    settings = {name: getattr(given, name) for name in ("max_new_tokens", "temperature", "top_k", "seed")}
    if given.no_verify:
        print("warning: the files of the package are not verified (--no-verify).", file=sys.stderr)
    try:
        model = Model(file=given.file, check=not given.no_verify)
        answer = model.answer(given.text, given.pair, **settings)
    except (InputError, PackageError) as err:
        print(err, file=sys.stderr)
        return 2
    print("prompt:", one_line(model.prompt_text if given.text is None else given.text))
    print("answer:", "\n".join(map(one_line, answer.split("\n"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
