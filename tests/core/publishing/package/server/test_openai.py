"""The endpoints of the server that clients of OpenAI use: whole texts, streams, errors, and clients that go away."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.core.publishing.serving import ask, module_of, running_server, served_package

pytestmark = pytest.mark.slow

PROMPT = "w20 w21"
GREEDY = {"prompt": PROMPT, "max_tokens": 9, "temperature": 0}


def model() -> Any:
    folder = served_package("causal_lm")[1].folder
    return module_of(folder, "inference").Model(folder, threads=1)


def events(port: int, body: dict[str, Any], path: str = "/v1/completions") -> list[Any]:
    """Return the server-sent events of an answer; the last one is the text that ends it."""
    data = json.dumps(body | {"stream": True}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        parts = answer.read().decode().split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part[6:]) if part[6] == "{" else part[6:] for part in parts]


def figure(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return float(re.findall(rf"^{re.escape(name)} (\S+)$", text, re.M)[0])


def test_a_completion_is_that_of_inference_in_the_form_of_openai(port: int) -> None:
    expected = model().generate(PROMPT, max_new_tokens=9, temperature=0)
    status, answer = ask(port, "/v1/completions", GREEDY)
    assert status == 200
    assert answer["id"].startswith("cmpl-")
    assert abs(answer["created"] - time.time()) < 60
    assert {key: value for key, value in answer.items() if key not in ("id", "created")} == {
        "object": "text_completion",
        "model": ask(port, "/health")[1]["model"],
        "choices": [{"text": expected.text, "index": 0, "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": expected.prompt_tokens, "completion_tokens": 9,
                  "total_tokens": 9 + expected.prompt_tokens},
    }  # fmt: skip
    assert expected.prompt_tokens == len(model().text.encode(PROMPT))


def test_each_prompt_of_a_list_has_its_choice(port: int) -> None:
    prompts = ["w20", "w30 w31", "w40 w41 w42"]
    answer = ask(port, "/v1/completions", GREEDY | {"prompt": prompts})[1]
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [
        (at, model().generate(prompt, max_new_tokens=9, temperature=0).text) for at, prompt in enumerate(prompts)
    ]


def test_the_seed_and_top_p_determine_the_text(port: int) -> None:
    def text(**settings: Any) -> str:
        return ask(port, "/v1/completions", {"prompt": PROMPT, "max_tokens": 12, **settings})[1]["choices"][0]["text"]

    drawn = [text(seed=seed, temperature=50) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert text(temperature=50, top_p=0) == text(temperature=0)


def test_a_text_ends_before_a_text_to_stop_at(port: int) -> None:
    settings = {"prompt": PROMPT, "max_tokens": 9, "temperature": 50, "seed": 1}
    text = ask(port, "/v1/completions", settings)[1]["choices"][0]["text"]
    stop = text[len(text) // 2 :][:3]
    kept = text[: text.index(stop)]
    assert 0 < len(kept) < len(text) - 3
    for given in (stop, [stop, "never"]):
        choice = ask(port, "/v1/completions", settings | {"stop": given})[1]["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (kept, "stop")
        *chunks, done = events(port, settings | {"stop": given})
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == kept
        assert (chunks[-1]["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")


def test_a_stream_has_the_pieces_of_the_same_text(port: int) -> None:
    body = GREEDY | {"prompt": [PROMPT, "w30"], "stream_options": {"include_usage": True}}
    whole = ask(port, "/v1/completions", {key: value for key, value in body.items() if key != "stream_options"})[1]
    *chunks, last, done = events(port, body)
    assert done == "[DONE]"
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    for choice in whole["choices"]:
        own = [item for chunk in chunks for item in chunk["choices"] if item["index"] == choice["index"]]
        assert "".join(item["text"] for item in own) == choice["text"]
        assert [item["finish_reason"] for item in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        assert len(own) >= 9
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["usage"] for chunk in chunks} == {None}


def test_the_model_is_listed_and_may_be_named(port: int) -> None:
    (entry,) = ask(port, "/v1/models")[1]["data"]
    assert (entry["object"], entry["id"]) == ("model", ask(port, "/health")[1]["model"])
    assert ask(port, "/v1/completions", GREEDY | {"model": entry["id"]})[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        ({"prompt": ""}, 400, "prompt", "There is nothing in the text"),
        ({"prompt": ["w20", ""]}, 400, "prompt", "There is nothing in the text"),
        ({"prompt": " "}, 400, None, "There is nothing in the text"),
        ({"prompt": ["w20", " "], "stream": True}, 400, None, "There is nothing in the text"),
        ({"prompt": [20, 21]}, 400, "prompt", "valid string"),
        ({"prompt": []}, 400, "prompt", "at least 1 item"),
        ({}, 400, "prompt", "required"),
        ({"prompt": "w20", "model": "gpt-4"}, 404, "model", "no such model"),
        ({"prompt": "w20", "max_tokens": 65}, 400, "max_tokens", "less than or equal to 64"),
        ({"prompt": "w20", "max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
        ({"prompt": "w20", "temperature": -1}, 400, "temperature", "greater than or equal to 0"),
        ({"prompt": "w20", "top_p": 1.5}, 400, "top_p", "less than or equal to 1"),
        ({"prompt": "w20", "n": 2}, 400, "n", "should be 1"),
        ({"prompt": "w20", "best_of": 3}, 400, "best_of", "should be 1"),
        ({"prompt": "w20", "echo": True}, 400, "echo", "should be"),
        ({"prompt": "w20", "logprobs": 3}, 400, "logprobs", "should be"),
        ({"prompt": "w20", "suffix": "x"}, 400, "suffix", "should be"),
        ({"prompt": "w20", "presence_penalty": 1}, 400, "presence_penalty", "should be 0"),
        ({"prompt": "w20", "logit_bias": {"5": 1}}, 400, "logit_bias", "at most 0"),
        ({"prompt": "w20", "stop": ["a"] * 5}, 400, "stop", "at most 4"),
        ({"prompt": "w20", "stop": ""}, 400, "stop", "at least 1 character"),
        ({"prompt": "w20", "tempereture": 1}, 400, "tempereture", "not permitted"),
        ({"prompt": "w20", "stream_options": {"include_usage": True}}, 400, "stream_options", "stream"),
        (b"{", 400, None, "not valid JSON"),
        (b"[" * 4000, 400, None, "not valid JSON"),
        (b" " * 5001, 413, None, "larger than 5000 bytes"),
    ],
)
def test_what_is_refused_is_an_error_of_openai(
    port: int, body: Any, status: int, param: str | None, message: str
) -> None:
    found, answer = ask(port, "/v1/completions", body)
    error = answer["error"]
    assert (found, list(answer), error["type"], error["param"]) == (status, ["error"], "invalid_request_error", param)
    assert message in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_parameters_that_change_nothing_are_accepted(port: int) -> None:
    neutral = {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "suffix": None, "presence_penalty": 0,
               "frequency_penalty": 0.0, "logit_bias": {}, "user": "a", "stop": None, "seed": None, "stream": False,
               "top_p": 1}  # fmt: skip
    status, answer = ask(port, "/v1/completions", GREEDY | neutral)
    assert (status, answer["choices"]) == (200, ask(port, "/v1/completions", GREEDY)[1]["choices"])


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/completions", 405)])
def test_other_paths_below_v1_answer_in_the_same_form(port: int, path: str, status: int) -> None:
    found, answer = ask(port, path)
    assert (found, answer["error"]["type"]) == (status, "invalid_request_error")


def test_chat_says_that_there_is_no_template(port: int) -> None:
    status, answer = ask(port, "/v1/chat/completions", {"messages": [{"role": "user", "content": "w20"}]})
    assert (status, answer["error"]["code"]) == (404, "no_chat_template")
    assert "send the whole text to /v1/completions" in answer["error"]["message"]


@pytest.fixture(scope="module")
def slow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with one place and one to wait, whose model is slow and breaks in the middle of 13 tokens."""
    folder = tmp_path_factory.mktemp("slow") / "model"
    shutil.copytree(served_package("causal_lm")[1].folder, folder)
    slow_down(folder)
    limits = {"MAX_RUNNING": "1", "MAX_WAITING": "1", "ANSWER_SECONDS": "60"}
    with running_server(folder, **limits) as number:
        yield number


def slow_down(folder: Path) -> None:
    path = folder / "inference.py"
    code = path.read_text()
    called = "            token = choose(logits)\n"
    assert called in code
    broken = "            if limit == 13 and len(grown.ids) == 2:\n                raise RuntimeError('broken')\n"
    path.write_text(code.replace(called, called + "            time.sleep(0.1)\n" + broken))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["inference.py"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def started(port: int, **settings: Any) -> http.client.HTTPConnection:
    """Return a connection on which a long text was asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"prompt": PROMPT, "max_tokens": 400, "temperature": 50, "seed": 3, **settings})
    connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    return connection


def wait_for(port: int, **figures: int) -> None:
    deadline = time.monotonic() + 20
    while any(figure(port, f"foundry_{name}_requests") != value for name, value in figures.items()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_health_and_metrics_answer_while_all_places_are_taken_and_further_requests_are_refused(slow_port: int) -> None:
    running = started(slow_port, stream=True)
    wait_for(slow_port, running=1)
    waiting = started(slow_port)
    wait_for(slow_port, running=1, waiting=1)
    began = time.monotonic()
    assert ask(slow_port, "/health")[0] == 200
    assert time.monotonic() - began < 1
    for stream in (False, True):
        refused = started(slow_port, stream=stream)
        answer = refused.getresponse()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert json.loads(answer.read())["error"]["type"] == "server_error"
        refused.close()
    waiting.close()
    running.close()
    wait_for(slow_port, running=0, waiting=0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_generation(slow_port: int, stream: bool) -> None:
    tokens = figure(slow_port, "foundry_generated_tokens_total")
    client = started(slow_port, stream=stream)
    wait_for(slow_port, running=1)
    if stream:
        assert client.getresponse().readline().startswith(b"data: {")
    client.close()
    wait_for(slow_port, running=0)
    assert figure(slow_port, "foundry_generated_tokens_total") < tokens + 100


def test_pieces_arrive_while_the_text_is_written(slow_port: int) -> None:
    client = started(slow_port, stream=True, max_tokens=10)
    began = time.monotonic()
    answer = client.getresponse()
    assert answer.readline().startswith(b"data: {")
    first = time.monotonic() - began
    answer.read()
    assert first < 0.5 * (time.monotonic() - began)
    client.close()


def test_a_text_that_cannot_be_finished_ends_with_an_error(slow_port: int) -> None:
    status, answer = ask(slow_port, "/v1/completions", GREEDY | {"max_tokens": 13})
    assert (status, answer["error"]["type"]) == (500, "server_error")
    first, *_, last = events(slow_port, GREEDY | {"max_tokens": 13})
    assert first["choices"][0]["text"]
    assert last["error"]["message"].startswith("The text could not be finished")
    assert "broken" not in json.dumps([answer, last])
    wait_for(slow_port, running=0)


def test_a_model_that_writes_no_text_completes_none(tmp_path: Path) -> None:
    with running_server(served_package("masked_lm")[1].folder) as port:
        status, answer = ask(port, "/v1/completions", {"prompt": "w20"})
        assert status == 400
        assert "use /predict" in answer["error"]["message"]
        docs = urllib.request.urlopen(f"http://127.0.0.1:{port}/docs", timeout=30).read().decode()
    assert "POST /predict" in docs
    assert "/v1/" not in docs.replace("<code>/v1</code>", "")


def test_a_client_that_reads_late_gets_larger_pieces_of_the_same_texts() -> None:
    folder = served_package("causal_lm")[1].folder
    server = module_of(folder, "server")
    settings = {"max_tokens": 60, "temperature": 0, "top_p": None, "stop": None, "seed": None, "stream_options": None}
    body = SimpleNamespace(prompt=[f"w{number}" for number in range(20, 30)], **settings)

    async def read_late() -> tuple[list[Any], list[Any]]:
        run = server._openai._Run(model(), body, server.Limits(), lambda _: None)
        made = await asyncio.to_thread(run.write)
        await asyncio.sleep(0)
        run.end()
        return made, [choice async for choice in until_none(run.next_choice)]

    made, choices = asyncio.run(read_late())
    assert sum(len(item.ids) for item in made) > 200
    assert len(choices) <= 64 + len(made)
    for index, item in enumerate(made):
        own = [choice for choice in choices if choice["index"] == index]
        assert "".join(choice["text"] for choice in own) == item.text
        assert [choice["finish_reason"] for choice in own if choice["finish_reason"]] == [own[-1]["finish_reason"]]


async def until_none(call: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
    while (item := await call()) is not None:
        yield item
