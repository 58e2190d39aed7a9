"""Fuzz a reader for minutes: ``python -m tests.faults.fuzz READER [MINUTES]``; only a FoundryError may come out.

READER is one of code, config, gist, zip, data, manifest, parameters, checkpoint, weights, http, or all of them
in turn. Each input has two gigabytes of memory and ten seconds.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import functools
import gzip
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.faults.limits import limited
from tests.integration.foundry import SAMPLES
from transformer_foundry.console.third_party import silence_third_parties
from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.models import read_export
from transformer_foundry.core.models.source.download import Downloads
from transformer_foundry.core.models.source.gist import Gist, fetch_gist

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
ANYTHING = st.binary(max_size=200) | st.builds(
    lambda before, piece, times: before + piece * times,
    st.binary(max_size=8) | st.just(b'{"text": '), st.sampled_from((b"[", b'{"a":', b"[[]", b"9", b"\0")),
    st.sampled_from((400, 900, 5000, 100_000)),
)  # fmt: skip
GIST = Gist("0" * 32)
MODEL = """
from torch import nn
class Model(nn.Module):
    def __init__(self, vocab_size=32, d_model=8, max_seq_len=16, **others):
        if max(vocab_size, d_model, max_seq_len) > 512:
            raise ValueError("too large for fuzzing")
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab_size, d_model), nn.Embedding(max_seq_len, d_model)
        self.output = nn.Linear(d_model, vocab_size)
    def forward(self, input_ids):
        return self.output(self.tokens(input_ids) + self.places.weight[: input_ids.shape[1]])
"""
CONFIG = {
    "version": "1.0", "model_name": "Model", "vocab_size": 32, "d_model": 8, "max_position_embeddings": 16,
    "pad_token_id": 0, "eos_token_id": 2, "num_labels": 2, "model_type": "gpt",
    "nodes": [{"id": "a", "type": "embedding", "params": {"vocab_size": 32, "max_seq_len": 16}}], "edges": [],
}  # fmt: skip


class Answers(Downloads):
    """Answers every request with the same bytes."""

    def __init__(self, body: bytes) -> None:
        object.__setattr__(self, "body", body)

    def get(self, url: str, *, token: str | None = None) -> bytes:
        return self.body  # type: ignore[attr-defined]


def damaged(original: bytes) -> st.SearchStrategy[bytes]:
    """The original with a piece of it cut out, overwritten or put in."""
    place = st.integers(0, len(original))
    return st.builds(
        lambda start, length, piece: original[:start] + piece + original[start + length :],
        place, st.integers(0, 40) | place, st.binary(max_size=40),
    )  # fmt: skip


def edited(original: Any) -> st.SearchStrategy[bytes]:
    """JSON with one value anywhere in it replaced."""
    paths = list(_paths(original))
    return st.builds(
        lambda path, value: json.dumps(_replaced(original, path, value)).encode(), st.sampled_from(paths), JSON
    )


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Any:
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*before, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


def read_config(folder: Path, content: bytes) -> None:
    """Read an export whose ``config.json`` holds ``content``, build its model and find its contract."""
    from transformer_foundry.core.models.building.build import build_model
    from transformer_foundry.core.models.inference.infer_contract import infer_contract

    (folder / "model.py").write_text(MODEL)
    (folder / "config.json").write_bytes(content)
    export = read_export(folder)
    infer_contract(build_model(export, seed=0), export.config)


def read_code(folder: Path, content: bytes) -> None:
    """Read an export whose ``model.py`` holds ``content``, as far as it goes before its code runs."""
    from transformer_foundry.core.models import describe_export
    from transformer_foundry.core.models.source.syntax import parse_model_code

    (folder / "model.py").write_bytes(content)
    (folder / "config.json").write_text("{}")
    export = read_export(folder)
    if len(describe_export(export).splitlines()) > 40:
        raise AssertionError("the description of an export has too many lines")
    parse_model_code(export.model_code)


def read_parameters(folder: Path, parameters: dict[str, Any]) -> None:
    """Complete and check parameters, as before every run."""
    from transformer_foundry.config.parameter_names import check_names
    from transformer_foundry.config.parameters import check_parameters, complete_parameters

    check_names(parameters, given=parameters, files=dict)
    check_parameters(complete_parameters(parameters))


def ask_server(folder: Path, request: tuple[str, str, bytes, bytes]) -> None:
    """Send a request to the server of a package; every answer is JSON or the page, and no error of the server."""
    method, path, host, body = request
    app, workers = _server()
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    headers = [(b"host", host), (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1),
        "server": ("localhost", 8000), "root_path": "",
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()  # the client stays
        return waiting.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        app.state.workers = workers()
        await app(scope, receive, send)

    asyncio.run(run())
    status = sent[0]["status"]
    if status not in (200, 404, 405, 413, 421, 400 if path.startswith("/v1/") else 422):
        raise AssertionError(f"{status} for {request}")
    if status >= 400:
        json.loads(b"".join(message.get("body", b"") for message in sent))["error"]


@functools.cache
def _server() -> tuple[Any, Callable[[], Any]]:
    """The server's application, with a model that repeats the text, and what makes its workers."""
    from tests.core.publishing.serving import module_of
    from transformer_foundry.core.publishing.package import programs

    folder = Path(tempfile.mkdtemp(prefix="foundry-server-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for path in (Path(programs.__file__).parent / "templates").rglob("*.py"):
        shutil.copy(path, folder)
    files = {path.name: {"sha256": sha256_of(path)} for path in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    server = module_of(folder, "server")

    class Echo:
        name, task, max_length, file = "echo", "causal_lm", 16, "model.onnx"
        longest_text, prompt_text, text = 16, "a", SimpleNamespace(encode=list)

        def generate(self, text: str, **_: Any) -> Any:
            return SimpleNamespace(text=text, ids=[1], stopped="end", prompt_tokens=1)

        def stream(self, text: str, **_: Any) -> Iterator[str]:
            yield text
            return self.generate(text)

        def predict(self, texts: list[str], top_k: int, *, seconds: float) -> list[list[Any]]:
            return [[] for _ in texts[:top_k]]

    limits = server.Limits(max_body_bytes=4096)
    return server.make_app(Echo(), limits), lambda: server.Workers(limits)


def _requests() -> st.SearchStrategy[tuple[str, str, bytes, bytes]]:
    good = {"text": "a", "max_new_tokens": 3, "temperature": 0.5, "top_k": 4, "seed": 1}
    openai = {"model": "echo", "prompt": ["a", "b"], "max_tokens": 3, "stop": ["c"], "top_p": 0.5, "stream": True}
    bodies = [edited(item) for item in (good, {"texts": ["a", "b"], "top_k": 2}, openai, openai | {"stream": False})]
    body = st.one_of(*bodies, damaged(json.dumps(good).encode()), damaged(json.dumps(openai).encode()), ANYTHING)
    known = ("/generate", "/predict", "/v1/completions", "/v1/chat/completions", "/v1/models", "/metrics", "/health")
    path = st.sampled_from((*known, "/", "/docs", "//x", "/generate/")) | st.text(max_size=8)
    host = st.sampled_from((b"localhost", b"127.0.0.1:80")) | st.binary(max_size=20)
    return st.tuples(st.sampled_from(("POST", "GET", "PUT")), path, host, body)


def _parameter_sets() -> st.SearchStrategy[dict[str, Any]]:
    import dataclasses

    from transformer_foundry.config.parameters import SECTIONS

    names = [(section, field.name) for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)]
    one = st.tuples(st.sampled_from(names) | st.tuples(st.sampled_from(tuple(SECTIONS)), st.text(max_size=8)), JSON)

    def merged(pairs: list[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (section, name), value in pairs:
            found.setdefault(section, {})[name] = value
        return found

    return st.lists(one, min_size=1, max_size=3).map(merged) | st.dictionaries(st.sampled_from(tuple(SECTIONS)), JSON)


def _code() -> st.SearchStrategy[bytes]:
    pieces = st.sampled_from(
        (b"(", b"-", b"[", b".a", b"a\n", b"'", b"lambda:", b"not ", b"f(", b"if 1:\n ", b"@a\n", b"{")
    )
    repeated = st.builds(lambda piece, times: piece * times, pieces, st.sampled_from((3, 90, 900, 20_000)))
    start = st.sampled_from((b"x = a", b"import torch\nx = torch", b"", b"class A:\n  x = "))
    return (
        damaged(MODEL.encode()) | st.builds(lambda a, b: a + b, start, repeated) | st.text(max_size=60).map(str.encode)
    )


def read_gist(folder: Path, content: bytes) -> None:
    """Fetch a gist that GitHub answers with ``content`` for."""
    home, _ = fetch_gist(GIST, folder, downloads=Answers(content))
    read_export(home)


def read_zip(folder: Path, content: bytes) -> None:
    """Read an export from a zip file that holds ``content``."""
    (folder / "a.zip").write_bytes(content)
    read_export(folder / "a.zip", cache_dir=folder / "cache")


def read_data(folder: Path, file: tuple[str, bytes]) -> None:
    """Read documents from a file with the ending and the content of ``file``."""
    from transformer_foundry.core.data import read_corpus
    from transformer_foundry.core.data.options import DataOptions

    kind, content = file
    (folder / f"a.{kind}").write_bytes(content)
    read_corpus(DataOptions(source=str(folder / f"a.{kind}")), "causal_lm", None)


def read_manifest(folder: Path, content: bytes) -> None:
    """Reproduce a run whose manifest holds ``content``."""
    from transformer_foundry.config.parameters import check_parameters, complete_parameters

    (folder / "manifest.json").write_bytes(content)
    check_parameters(complete_parameters({"run": {"reproduce": str(folder / "manifest.json")}}))


def read_generation(folder: Path, change: tuple[str, bytes, bool]) -> None:
    """Find and read the newest checkpoint of a run, a file of which holds something else.

    Args:
        folder: Where the run is made.
        change: File name, its content, and whether the manifest names the digests of what is there now.
    """
    from transformer_foundry.core.training import newest_checkpoint, read_checkpoint

    name, content, is_sealed = change
    generation = folder / "checkpoints" / "step-00000004"
    shutil.copytree(_generation(), generation)
    (generation / name).write_bytes(content)
    if is_sealed:
        _seal_again(generation)
    newest = newest_checkpoint(folder)
    if newest is not None:
        read_checkpoint(newest)


def read_weights(folder: Path, change: tuple[str, bytes]) -> None:
    """Begin with the weights of a package, a file of which (given with its content) holds something else."""
    from transformer_foundry.core.training import read_weight_source

    files = _package() | dict([change])
    if change[0] != "manifest.json":
        # As in a file that was made on purpose.
        old, new = (hashlib.sha256(content).hexdigest().encode() for content in (_package()[change[0]], change[1]))
        files["manifest.json"] = files["manifest.json"].replace(old, new)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    read_weight_source(str(folder), folder)


@functools.cache
def _package() -> dict[str, bytes]:
    """File name -> content of what ``model.init_from`` reads of a package."""
    import torch
    from safetensors.torch import save
    from tokenizers import Tokenizer, models

    files = {
        "model.safetensors": save({"a": torch.ones(2, 3)}, {"aliases": json.dumps({"b": "a"})}),
        "tokenizer.json": Tokenizer(models.WordLevel({"a": 0, "b": 1}, "a")).to_str().encode(),
    }
    manifest = {
        "formats": [{"format": "pytorch", "status": "verified", "file": "model.safetensors"}],
        "files": {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()},
        "model": {"kind": "decoder-only", "task": "causal_lm"},
    }
    return files | {"manifest.json": json.dumps(manifest).encode()}


def _package_changes() -> st.SearchStrategy[tuple[str, bytes]]:
    changes = [st.tuples(st.just(name), damaged(content) | ANYTHING) for name, content in _package().items()]
    changes += [
        st.tuples(st.just(name), edited(json.loads(_package()[name]))) for name in ("manifest.json", "tokenizer.json")
    ]
    return st.one_of(changes)


def _seal_again(generation: Path) -> None:
    """Write a manifest that matches the files, as in a folder that was made on purpose."""
    from transformer_foundry.core.files import folder_manifest

    path = generation / folder_manifest.MANIFEST_FILE
    values = json.loads(path.read_bytes())
    if not isinstance(values, dict):
        return
    values.pop("seal", None)
    original = json.loads((_generation() / folder_manifest.MANIFEST_FILE).read_bytes())
    if values.get("files") == original["files"]:
        files = {file.name: file for file in generation.iterdir() if file != path}
        values = json.loads(folder_manifest.manifest_text(files, values))
        del values["seal"]
    path.write_text(json.dumps({**values, "seal": folder_manifest._seal(values)}))


@functools.cache
def _generation() -> Path:
    """A small checkpoint; it exists until the process ends."""
    from tests.hooks.runs import make_checkpoint
    from transformer_foundry.core.training import write_checkpoint

    scratch = Path(tempfile.mkdtemp(prefix="foundry-fuzz-"))
    atexit.register(shutil.rmtree, scratch)
    return write_checkpoint(scratch, make_checkpoint(4, 64))


def _changes() -> st.SearchStrategy[tuple[str, bytes, bool]]:
    files = {path.name: path.read_bytes() for path in _generation().iterdir()}
    changes = [
        st.tuples(st.just(name), damaged(content) | ANYTHING, st.just(name != "manifest.json"))
        for name, content in files.items()
    ]
    changes += [
        st.tuples(st.just(name), edited(json.loads(files[name])), st.just(is_sealed))
        for name in ("state.json", "manifest.json")
        for is_sealed in (True, False)
    ]
    return st.one_of(changes)


def _data_files() -> st.SearchStrategy[tuple[str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet

    texts = ["some words here", "other words there"] * 8
    parquet = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table({"text": texts, "label": [1, 0] * 8}), parquet)
    lines = b"".join(b'{"text": "%b"}\n' % text.encode() for text in texts)
    files = {
        "txt": "\n".join(texts).encode(),
        "csv": b"text,label\n" + b"".join(b"%b,1\n" % text.encode() for text in texts),
        "jsonl": lines,
        "json": json.dumps([{"text": text} for text in texts]).encode(),
        "jsonl.gz": gzip.compress(lines, mtime=0),
        "parquet": parquet.getvalue().to_pybytes(),
    }
    return st.one_of([st.tuples(st.just(kind), damaged(content) | ANYTHING) for kind, content in files.items()])


def _zip_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        return Path(shutil.make_archive(f"{scratch}/a", "zip", SAMPLES / "gpt")).read_bytes()


def _answer(encoding: str = "utf-8", truncated: bool = False) -> dict[str, Any]:
    files = {name: (SAMPLES / "gpt" / name).read_bytes() for name in ("model.py", "config.json")}
    listed = {
        name: {
            "filename": name, "size": len(text), "truncated": truncated, "encoding": encoding,
            "content": (base64.b64encode(text) if encoding == "base64" else text).decode(),
            "raw_url": f"https://gist.githubusercontent.com/{name}",
        }
        for name, text in files.items()
    }  # fmt: skip
    return {"id": GIST.id, "files": listed, "history": [{"version": "0" * 40}]}


def _manifest() -> dict[str, Any]:
    parameters = {"model": {"source": "x", "kind": None}, "data": {"source": "built-in"}, "training": {"max_steps": 4}}
    return {"parameters": parameters, "seeds": {"data": 0}}


def readers() -> dict[str, tuple[Callable[[Path, Any], None], st.SearchStrategy[Any]]]:
    """Name -> reader, and what it is given."""
    config = json.dumps(CONFIG).encode()
    return {
        "code": (read_code, _code()),
        "parameters": (read_parameters, _parameter_sets()),
        "http": (ask_server, _requests()),
        "config": (read_config, ANYTHING | damaged(config) | edited(CONFIG)),
        "gist": (read_gist, st.one_of(ANYTHING, *map(edited, (_answer(), _answer("base64"), _answer(truncated=True))))),
        "zip": (read_zip, ANYTHING | damaged(_zip_bytes())),
        "data": (read_data, _data_files()),
        "manifest": (read_manifest, ANYTHING | edited(_manifest())),
        "checkpoint": (read_generation, _changes()),
        "weights": (read_weights, _package_changes()),
    }


def fuzz(name: str, examples: int, seconds: float | None = None) -> int:
    """Give a reader ``examples`` inputs, or as many as ``seconds`` allow, and return how many it was given.

    Raises:
        BaseException: What came out that is no FoundryError, for the smallest input that hypothesis found.
    """
    reader, inputs = readers()[name]
    end = None if seconds is None else time.monotonic() + seconds
    given_count = 0

    def attempt(content: Any) -> None:
        nonlocal given_count
        if end is not None and time.monotonic() > end:
            return
        given_count += 1
        with tempfile.TemporaryDirectory(prefix="foundry-fuzz-") as scratch:
            try:
                with limited(memory_mib=2048, seconds=10):
                    reader(Path(scratch), content)
            except FoundryError as err:
                if not 1 <= len(str(err).splitlines()) <= 3:
                    raise AssertionError(str(err)) from err

    phases = [Phase.explicit, Phase.generate, Phase.shrink]
    checked = settings(
        max_examples=examples, deadline=None, database=None, phases=phases, derandomize=end is None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    while True:
        checked(given(inputs)(attempt))()
        if end is None or time.monotonic() > end:
            return given_count


def main(arguments: Sequence[str]) -> None:
    """Fuzz one reader, or each in turn, for some minutes."""
    silence_third_parties()
    minutes = float(arguments[1]) if len(arguments) > 1 else 10.0
    for name in readers() if arguments[0] == "all" else arguments[:1]:
        count = fuzz(name, 1000, minutes * 60)
        print(f"{name}: {count:,} inputs in {minutes:g} minutes, nothing but FoundryError came out", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
