"""inference.py and server.py: equal to the model, alone on their machine, and polite to every request."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
import importlib.metadata
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from packaging.requirements import Requirement

from tests.core.publishing.serving import (
    alone,
    ask,
    module_of,
    running_server,
    served_package,
)
from tests.faults.fuzz import edited
from transformer_foundry.core.evaluation.generation import generate, translate

pytestmark = pytest.mark.slow

TEXTS = ["w20", "w21 w22 w23 w24 w25", " ".join(f"w{number}" for number in range(30, 70))]


def model_of(task: str) -> Any:
    folder = served_package(task)[1].folder
    return module_of(folder, "inference").Model(folder, threads=1)


@pytest.mark.parametrize("text", TEXTS)
def test_greedy_continuations_have_the_ids_of_the_torch_model(text: str) -> None:
    adapter, model = served_package("causal_lm")[0], model_of("causal_lm")
    ids = model.text.encode(text)
    expected = generate(adapter, torch.tensor([ids]), 30, temperature=0, eos_token_id=2, max_length=24)
    new = expected[0, len(ids) :].tolist()
    following = adapter(input_ids=torch.tensor([ids]))[0, -1].detach()
    np.testing.assert_allclose(next(model._next_logits(ids, [], 1)), following, atol=1e-4)
    assert model.generate(text, max_new_tokens=30, temperature=0).ids == [token for token in new if token != 2]


@pytest.mark.parametrize("text", TEXTS)
def test_greedy_translations_have_the_ids_of_the_torch_model(text: str) -> None:
    adapter, model = served_package("seq2seq_lm")[0], model_of("seq2seq_lm")
    ids = torch.tensor([model.text.encode(text)])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": torch.tensor([[0]])}
    new = translate(adapter, batch, 12, eos_token_id=2)[0].tolist()
    assert model.generate(text, max_new_tokens=12, temperature=0).ids == [token for token in new if token != 2]


def test_sampled_texts_follow_the_seed_and_top_k() -> None:
    model = model_of("causal_lm")
    drawn = [model.generate("w20", temperature=60.0, seed=seed).ids for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert model.generate("w20", temperature=1e-300, seed=1).ids == model.generate("w20", temperature=0).ids
    assert model.generate("w20", temperature=5.0, top_k=1).ids == model.generate("w20", temperature=0).ids
    assert model.generate("w20", max_new_tokens=30, temperature=0, seconds=0).stopped in ("time", "end")


def test_labels_of_texts_of_unequal_length_are_the_torch_models() -> None:
    adapter, model = served_package("sequence_classification")[0], model_of("sequence_classification")
    for text, labels in zip(TEXTS, model.classify(TEXTS), strict=True):
        ids = torch.tensor([model.text.encode(text)])
        shares = adapter(input_ids=ids, attention_mask=torch.ones_like(ids))[0].softmax(-1)
        assert {int(item["label"]): item["score"] for item in labels} == pytest.approx(dict(enumerate(shares.tolist())))


def test_guesses_for_hidden_tokens_are_the_torch_models() -> None:
    adapter, model = served_package("masked_lm")[0], model_of("masked_lm")
    texts = ["w20 [MASK] w22", "w30 <mask> w32 w33 [MASK] w35 w36"]
    hidden = [[20, 4, 22], [30, 4, 32, 33, 4, 35, 36]]
    for ids, places in zip(hidden, model.fill_mask(texts), strict=True):
        logits = adapter(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long())[0]
        assert [place["position"] for place in places] == np.flatnonzero(np.array(ids) == 4).tolist()
        for place in places:
            assert place["guesses"][0]["id"] == int(logits[place["position"]].argmax())


@pytest.mark.parametrize(
    ("task", "call", "message"),
    [
        ("masked_lm", lambda model: model.predict(["w20 w21"]), "No token is hidden"),
        ("masked_lm", lambda model: model.predict(["w20 " * 40 + "[MASK]"]), "beyond the 24 tokens"),
        ("masked_lm", lambda model: model.generate("w20"), "does not write"),
        ("causal_lm", lambda model: model.predict(["w20"]), "use generate"),
        ("causal_lm", lambda model: model.generate("\ud800"), "surrogate"),
        ("causal_lm", lambda model: model.generate("w20", temperature=float("nan")), "finite"),
        ("sequence_classification", lambda model: model.predict([""]), "nothing in the text"),
    ],
)
def test_an_unusable_input_is_refused_in_one_sentence(task: str, call: Any, message: str) -> None:
    model = model_of(task)
    with pytest.raises(ValueError, match=message) as caught:
        call(model)
    assert type(caught.value).__name__ == "InputError"


def without_a_limit(task: str, folder: Path, longest_text: int) -> Path:
    """Copy a package and let its manifest say that the model takes texts of any length."""
    shutil.copytree(served_package(task)[1].folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["contract"]["max_length"] = None
    manifest["encoding"]["longest_text"] = longest_text
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(("task", "path"), [("causal_lm", "/generate"), ("sequence_classification", "/predict")])
def test_a_model_without_a_limit_reads_no_more_than_it_was_trained_with(task: str, path: str, tmp_path: Path) -> None:
    folder = without_a_limit(task, tmp_path / "package", 5)
    model = module_of(folder, "inference").Model(folder, threads=1)
    assert len(model.text.encode("w20 w21 w22")) >= 3
    with pytest.raises(ValueError, match=r"has \d tokens, but this model was trained and verified with at most 5"):
        model.text.encode("w20 w21 w22 w23 w24 w25")
    body = {"text": "w20 " * 4000} if path == "/generate" else {"texts": ["w20", "w20 " * 4000]}
    with running_server(folder) as port:
        status, answer = ask(port, path, body)
        assert ask(port, "/health")[1]["max_length"] == 5
    assert status == 422
    assert re.match(r"The text has 4,00\d tokens, but", answer["error"])


def test_a_prediction_that_takes_too_long_is_given_up() -> None:
    model = model_of("sequence_classification")
    with pytest.raises(ValueError, match="not read within 0 seconds; send fewer"):
        model.predict(TEXTS * 8, seconds=0)


def run(task: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = served_package(task)[1].folder
    return subprocess.run(alone("inference.py", *arguments), cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm", "sequence_classification", "seq2seq_lm"])
def test_inference_runs_where_only_its_requirements_are(task: str) -> None:
    done = run(task, "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"prompt: \S.*\nanswer: \S[\s\S]*\n", done.stdout)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json", "inference.py"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_package_is_refused_in_one_sentence(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "package"
    shutil.copytree(served_package("causal_lm")[1].folder, folder)
    content = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[: len(content) // 2] if damage == "cut" else content.replace(b"e", b"f", 3))
    inference = module_of(served_package("causal_lm")[1].folder, "inference")
    with pytest.raises(ValueError, match="download the package again") as caught:
        inference.Model(folder)
    assert type(caught.value).__name__ == "PackageError"
    assert "\n" not in str(caught.value)


def test_what_a_manifest_may_hold_never_ends_in_a_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(served_package("causal_lm")[1].folder, folder)
    inference = module_of(served_package("causal_lm")[1].folder, "inference")
    manifest = json.loads((folder / "manifest.json").read_text())
    used = ("model", "formats", "files", "special_token_ids", "encoding", "prompt", "label_names")

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(edited({name: manifest[name] for name in used}))
    def attempt(content: bytes) -> None:
        (folder / "manifest.json").write_bytes(content)
        with contextlib.suppress(inference.PackageError, inference.InputError):
            inference.Model(folder).answer("w20", max_new_tokens=2)

    attempt()


def test_what_is_not_verified_is_said() -> None:
    done = run("causal_lm", "--no-verify")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert done.stderr.startswith("warning: the files of the package are not verified")


def test_inference_reports_an_error_without_a_traceback() -> None:
    for arguments in (["--temperature", "-1"], ["--file", "other.onnx"], ["--max-new-tokens", "0"]):
        done = run("causal_lm", *arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_the_server_gives_the_answers_of_inference(port: int) -> None:
    status, health = ask(port, "/health")
    assert (status, health["status"], health["task"]) == (200, "ok", "causal_lm")
    expected = model_of("causal_lm").generate("w20 w21", max_new_tokens=9, temperature=0)
    answer = {"text": expected.text, "tokens": len(expected.ids), "stopped": expected.stopped}
    assert ask(port, "/generate", {"text": "w20 w21", "max_new_tokens": 9, "temperature": 0}) == (200, answer)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/generate", b'{"text": "w20"', 422),
        ("/generate", b"\xff\xfe", 422),
        ("/generate", b"[" * 4000, 422),
        ("/generate", b"", 422),
        ("/generate", b"null", 422),
        ("/generate", {"text": 12}, 422),
        ("/generate", {"text": ["w20"]}, 422),
        ("/generate", {"text": ""}, 422),
        ("/generate", {"text": "w" * 2001}, 422),
        ("/generate", b'{"text": "\\ud800"}', 422),
        ("/generate", {"text": "w20", "max_new_tokens": 10**30}, 422),
        ("/generate", b'{"text": "w20", "max_new_tokens": ' + b"9" * 4500 + b"}", 422),
        ("/generate", {"text": "w20", "max_new_tokens": "5"}, 422),
        ("/generate", {"text": "w20", "max_new_tokens": True}, 422),
        ("/generate", {"text": "w20", "temperature": float("nan")}, 422),
        ("/generate", {"text": "w20", "temperature": float("inf")}, 422),
        ("/generate", {"text": "w20", "tempereture": 1}, 422),
        ("/generate", {"text": "w20", "seed": -1}, 422),
        ("/generate", b" " * 5001, 413),
        ("/predict", {"texts": []}, 422),
        ("/predict", {"texts": ["w20"]}, 422),
        ("/predict", {"texts": ["w20"] * 33}, 422),
        ("/nothing", {"text": "w20"}, 404),
        ("/generate", None, 405),
    ],
)
def test_a_bad_request_gets_one_sentence_and_the_server_lives(port: int, path: str, body: Any, status: int) -> None:
    found, answer = ask(port, path, body)
    assert (found, list(answer)) == (status, ["error"])
    assert 0 < len(answer["error"]) <= 500
    assert "Traceback" not in answer["error"]
    assert ask(port, "/health")[0] == 200


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_sent_as_json_is_refused_with_the_header_that_it_needs(port: int, content_type: str) -> None:
    status, answer = ask(port, "/generate", {"text": "w20"}, content_type)
    assert (status, "send it with the header content-type: application/json" in answer["error"]) == (422, True)


def test_server_and_program_refuse_an_empty_text_with_one_sentence(port: int) -> None:
    model = model_of("causal_lm")
    model.text.settings["prefix"] = [1]  # a model with a first token could write without a text
    with pytest.raises(Exception, match="There is nothing in the text") as caught:
        model.answer("")
    assert ask(port, "/generate", {"text": ""}) == (422, {"error": str(caught.value)})


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{", b"HTTP/1.1 408"),
        (
            b"POST /generate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            b"HTTP/1.1 408",
        ),
        (
            b"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n",
            b"HTTP/1.1 413",
        ),
        (b"GET /health HTTP/1.1\r\nho", b""),
        (b"", b""),
        (b"\x16\x03\x01 no http at all\r\n\r\n", b"HTTP/1.1 400"),
    ],
)
def test_a_slow_or_malformed_client_is_disconnected(port: int, sent: bytes, answer: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        client.sendall(sent)
        received = b""
        while part := client.recv(65536):  # ends when the server closes the connection
            received += part
    assert received.startswith(answer)
    assert bool(received) == bool(answer)
    assert ask(port, "/health")[0] == 200


def test_fifty_requests_at_once_are_all_answered(port: int) -> None:
    body = {"text": "w20 w21", "max_new_tokens": 16, "temperature": 0}
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda _: ask(port, "/generate", body), range(50)))
    assert [status for status, _ in answers] == [200] * 50
    assert len({answer["text"] for _, answer in answers}) == 1


def server_module() -> ModuleType:
    return module_of(served_package("causal_lm")[1].folder, "server")


def test_requests_beyond_the_limit_are_refused_at_once() -> None:
    server = server_module()

    async def crowd() -> list[Any]:
        workers = server.Workers(server.Limits(max_running=1, max_waiting=2))
        gate = threading.Event()
        waiting = [asyncio.create_task(workers.run("a", gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(server.Busy):
            await workers.run("b", gate.wait)
        gate.set()
        return [*await asyncio.gather(*waiting), await workers.run("a", lambda: "room again")]

    assert asyncio.run(crowd()) == [True, True, True, "room again"]


def test_one_client_cannot_hold_all_places_and_others_have_their_turn() -> None:
    server = server_module()

    async def crowd() -> list[str]:
        workers = server.Workers(server.Limits(max_running=1, max_waiting=20, max_per_client=8))
        gate, done = threading.Event(), []
        first = asyncio.create_task(workers.run("greedy", gate.wait))
        await asyncio.sleep(0)

        async def ask(client: str) -> None:
            await workers.run(client, lambda: done.append(client))

        asked = [asyncio.create_task(ask("greedy")) for _ in range(7)]
        await asyncio.sleep(0)
        with pytest.raises(server.Busy):
            await workers.run("greedy", gate.wait)
        asked += [asyncio.create_task(ask("other")) for _ in range(2)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, *asked)
        return done

    assert asyncio.run(crowd())[:4] == ["greedy", "other", "greedy", "other"]


def test_a_request_that_is_given_up_leaves_its_place_to_others() -> None:
    server = server_module()

    async def crowd() -> list[str]:
        workers = server.Workers(server.Limits(max_running=1, max_waiting=1, max_per_client=2))
        gate = threading.Event()
        first = asyncio.create_task(workers.run("a", gate.wait))
        second = asyncio.create_task(workers.run("a", gate.wait))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        third = asyncio.create_task(workers.run("b", lambda: "answered"))
        await asyncio.sleep(0)
        first.cancel()  # its thread still runs: the slot stays taken
        await asyncio.sleep(0.05)
        assert not third.done()
        gate.set()
        return [await third, await workers.run("a", lambda: "again")]

    assert asyncio.run(crowd()) == ["answered", "again"]


def raw(port: int, request: bytes) -> bytes:
    """Send bytes and return the answer until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def get(port: int, path: str, host: str) -> bytes:
    return raw(port, f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "[::2]", "127.0.0.2"]
)
def test_a_foreign_host_is_refused(port: int, host: str) -> None:
    assert get(port, "/health", host).startswith(b"HTTP/1.1 421")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "localhost."])
def test_this_machine_is_no_foreign_host(port: int, host: str) -> None:
    assert get(port, "/health", host).startswith(b"HTTP/1.1 200")


def test_the_server_never_redirects(port: int) -> None:
    for path in ("/health/", "//evil.example/health", "/docs/", "/generate/"):
        assert get(port, path, "localhost").startswith(b"HTTP/1.1 404"), path


def test_the_server_describes_its_endpoints(port: int) -> None:
    answer = get(port, "/docs", "localhost").decode()
    assert answer.startswith("HTTP/1.1 200")
    described = set(re.findall(r"<h2><code>\w+ (.*?)</code>", answer))
    missing = {"/docs", "/v1/chat/completions", "/predict"}  # the page itself, and what this model has not
    assert described | missing == {*ask(port, "/openapi.json")[1]["paths"], "/", "/docs", "/metrics", "/openapi.json"}
    assert "<script" not in answer


def test_the_commands_of_the_docs_are_answered(port: int) -> None:
    page = html.unescape(get(port, "/docs", f"localhost:{port}").decode())
    commands = re.findall(r"<pre>curl (.*)</pre>", page)
    assert len(commands) >= 7
    for command in commands:
        parts = shlex.split(command)
        body = parts[parts.index("-d") + 1].encode() if "-d" in parts else None
        request = urllib.request.Request(parts[-1], body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200, command


def test_the_page_may_run_its_own_script_alone(port: int) -> None:
    head, page = get(port, "/", "localhost").decode().split("\r\n\r\n", 1)
    (script,) = re.findall(r"<script>(.*)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; connect-src 'self'; img-src data:; script-src 'sha256-{digest}';" in head
    assert "/v1/completions" in page


def test_health_answers_while_one_client_does_all_it_can(port: int) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(300):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))
        # Another address of this machine is another client.
        with socket.create_connection(("127.0.0.1", port), timeout=5, source_address=("127.0.0.9", 0)) as other:
            other.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("value", ["0", "-1", "ten", "1e3", "9" * 30, "²"])
def test_a_bad_setting_ends_the_server_with_one_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    server = server_module()
    monkeypatch.setenv("MAX_NEW_TOKENS", value)
    with pytest.raises(SystemExit, match=r"MAX_NEW_TOKENS is .* whole number"):
        server.Limits.from_environment()


def test_the_dockerfile_runs_the_server_as_a_user_without_rights() -> None:
    lines = (served_package("causal_lm")[1].folder / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    steps = [line.split(maxsplit=1)[0] for line in lines if line and not line.startswith("#")]
    assert steps[0] == "FROM"
    assert steps.index("USER") < steps.index("HEALTHCHECK") < len(steps) - 1 == steps.index("CMD")
    assert {"USER model", 'CMD ["python", "server.py"]'} <= set(lines)
    (health,) = [line for line in lines if line.startswith("HEALTHCHECK")]
    assert "/health" in health
    compile(re.findall(r'"-c", "(.*)"\]', health)[0], "health", "exec")


def test_the_requirements_are_what_the_programs_import() -> None:
    folder = served_package("causal_lm")[1].folder
    lines = [line for line in (folder / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    names = {re.split("[<>=]", line)[0] for line in lines}
    modules = [folder / "inference.py", *folder.glob("text_*.py"), *folder.glob("server*.py")]
    code = "".join(path.read_text() for path in modules)
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", code, re.M)) - sys.stdlib_module_names
    # FastAPI brings two of them.
    assert imported - {"pydantic", "starlette"} - {path.stem for path in modules} == names
    for line in lines:
        pinned, allowed = (Requirement(text) for text in (line.partition("#")[0], re.sub(r"==.*# ", "", line)))
        version = importlib.metadata.version(pinned.name)
        assert str(pinned.specifier) == f"=={version}"
        assert allowed.specifier.contains(version), line


def test_the_templates_are_copied_unchanged() -> None:
    from transformer_foundry.core.publishing.package import programs

    folder = served_package("causal_lm")[1].folder
    templates = Path(programs.__file__).parent / "templates"
    names = [*templates.glob("*.py"), *templates.glob("server/*.py"), templates / "server" / "Dockerfile"]
    copied = [path for path in names if path.name != "__init__.py"]
    assert len(copied) >= 10
    for path in copied:
        assert (folder / path.name).read_bytes() == path.read_bytes()
