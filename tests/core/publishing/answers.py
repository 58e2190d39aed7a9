"""One package, asked through transformers, its native model, ONNX, its server and its page: greedy answers to texts."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from pydoc_data import topics
from typing import Any

import torch

from tests.core.data.samples import corpus_of
from tests.core.publishing.packaging import EVALUATION, REPORT, RUN
from tests.core.publishing.serving import ask, module_of, running_server
from transformer_foundry.core.data import DataOptions, Document, fit_tokenizer
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.core.publishing import DeploymentOptions, Package, build_package

BUNDLED = Path(__file__).parents[3] / "data" / "01_raw" / "exports"
NEW_TOKENS = 12

_CAUSAL = """
import json, sys, torch, transformers
folder, given = sys.argv[1], json.load(sys.stdin)
write = transformers.pipeline("text-generation", folder, trust_remote_code=True)
settings = dict(max_new_tokens=given["new_tokens"], do_sample=False)
piped = [write(text, return_full_text=False, **settings)[0]["generated_text"] for text in given["texts"]]
tokenizer, model, alone = write.tokenizer, write.model, []
for text in given["texts"]:
    ids, written = tokenizer(text)["input_ids"], []
    with torch.no_grad():
        while len(written) < given["new_tokens"] and written[-1:] != [tokenizer.eos_token_id]:
            written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    alone.append(tokenizer.decode(written, skip_special_tokens=True))
print("answers:" + json.dumps([piped, alone]))
"""
_MASKED = """
import json, sys, torch, transformers
folder, given = sys.argv[1], json.load(sys.stdin)
fill = transformers.pipeline("fill-mask", folder, trust_remote_code=True)
tokenizer, model = fill.tokenizer, fill.model
piped, alone = [], []
for text in given["texts"]:
    text = text.replace("[MASK]", tokenizer.mask_token)
    try:
        found = fill(text, top_k=3, tokenizer_kwargs={"truncation": True})
    except transformers.pipelines.PipelineException:  # the mask is cut off
        piped.append(None)
        alone.append(None)
        continue
    places = found if isinstance(found[0], list) else [found]
    piped.append([[guess["token"] for guess in place] for place in places])
    ids = torch.tensor([tokenizer(text, truncation=True)["input_ids"]])
    with torch.no_grad():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[0]
    alone.append([logits[at].topk(3).indices.tolist() for at in (ids[0] == tokenizer.mask_token_id).nonzero()[:, 0]])
print("answers:" + json.dumps([piped, alone]))
"""
_PAGE = """
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
globalThis.fetch = async (url) => new Response(await readFile(fileURLToPath(url)));
const { InputError, Model } = await import(process.argv[2]);
const given = JSON.parse(await readFile(process.argv[3], "utf8"));
const model = await Model.load();
const answers = [];
for (const text of given.texts) {
  try {
    if (model.task === "masked_lm") {
      answers.push((await model.fillMask(text, 3)).map(({ guesses }) => guesses.map(({ id }) => id)));
    } else {
      let written = "";
      const settings = { maxNewTokens: given.new_tokens, temperature: 0 };
      for await (const step of model.generate(text, settings)) written = step.text;
      answers.push(written);
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    answers.push({ error: error.message });
  }
}
console.log("answers:" + JSON.stringify(answers));
"""


def answering_package(name: str, folder: Path, **settings: Any) -> Package:
    """Package a bundled model with a tokenizer of its own, and weights whose answers differ from text to text."""
    torch.manual_seed(0)
    shutil.copytree(BUNDLED / name, folder / name)
    config = json.loads((folder / name / "config.json").read_text()) | settings
    (folder / name / "config.json").write_text(json.dumps(config))
    export = read_export(folder / name)
    adapter = load_model(export)
    documents = [Document(text) for text in sorted(topics.topics.values())[:25]]
    tokenizer = fit_tokenizer(corpus_of(documents, adapter.contract.task), adapter.contract, DataOptions())
    _spread(adapter)
    profile = {"source": "built-in text", "examples": [{"input": "The value of the argument is returned"}]}
    package = build_package(
        adapter.eval(),
        export,
        tokenizer,
        training_state=None,
        evaluation=EVALUATION,
        data_profile=profile,
        validation_report=REPORT,
        run_manifest=RUN,
        options=DeploymentOptions(formats=["pytorch", "onnx", "transformers"]),
    )
    return Package(Path(shutil.move(package.folder, folder / f"{name}-package")), package.manifest)


def _spread(adapter: Any) -> None:
    """Give the matrices random values so large that every token of a text changes the answer."""
    with torch.no_grad():
        for name, value in adapter.model.named_parameters():
            if value.ndim > 1:
                value.normal_(std=0.5 if "embedding" in name else value.shape[1] ** -0.5)


def by_transformers(package: Package, texts: list[str]) -> list[list[Any]]:
    """Return the answers of ``pipeline``, and those of the model itself for the ids of ``AutoTokenizer``."""
    code = _CAUSAL if package.manifest["model"]["task"] == "causal_lm" else _MASKED
    given = json.dumps({"texts": texts, "new_tokens": NEW_TOKENS})
    command = [sys.executable, "-c", code, str(package.folder)]
    return _answers_in(subprocess.run(command, input=given, capture_output=True, text=True, check=False))


def by_program(package: Package, texts: list[str]) -> list[Any]:
    """Return the answers of ``inference.py``; a refusal is ``{"error": sentence}``."""
    program = module_of(package.folder, "inference")
    model, answers = program.Model(package.folder, threads=1), []
    for text in texts:
        try:
            if model.task == "causal_lm":
                answers.append(model.generate(text, max_new_tokens=NEW_TOKENS, temperature=0).text)
            else:
                answers.append(_guesses(model.fill_mask([text], 3)[0]))
        except program.InputError as err:
            answers.append({"error": str(err)})
    return answers


def by_server(package: Package, texts: list[str]) -> list[Any]:
    """Return the answers of ``server.py``; a refusal is ``{"error": sentence}``."""
    answers = []
    with running_server(package.folder) as port:
        for text in texts:
            if package.manifest["model"]["task"] == "causal_lm":
                body: dict[str, Any] = {"text": text, "max_new_tokens": NEW_TOKENS, "temperature": 0}
                status, answer = ask(port, "/generate", body)
                answers.append(answer["text"] if status == 200 else answer)
            else:
                status, answer = ask(port, "/predict", {"texts": [text], "top_k": 3})
                answers.append(_guesses(answer["answers"][0]) if status == 200 else answer)
    return answers


def by_stream(package: Package, texts: list[str]) -> list[Any]:
    """Return the joined pieces that the server streams to a client of OpenAI; a refusal is ``{"error": sentence}``."""
    answers: list[Any] = []
    with running_server(package.folder) as port:
        for text in texts:
            body = {"prompt": text, "max_tokens": NEW_TOKENS, "temperature": 0, "stream": True}
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read().decode()
            connection.close()
            if answer.status != 200:
                answers.append({"error": json.loads(content)["error"]["message"]})
                continue
            events = re.findall(r"^data: ({.*})$", content, re.M)
            answers.append("".join(json.loads(event)["choices"][0]["text"] for event in events))
    return answers


def by_page(package: Package, texts: list[str], scratch: Path) -> list[Any]:
    """Return the answers of ``model.js``, run by Node; a refusal is ``{"error": sentence}``."""
    (scratch / "given.json").write_text(json.dumps({"texts": texts, "new_tokens": NEW_TOKENS}))
    (scratch / "page.mjs").write_text(_PAGE)
    command = ["node", "page.mjs", (package.folder / "model.js").as_uri(), "given.json"]
    return _answers_in(subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False))


def _answers_in(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("answers:")]
    return list(json.loads(line.removeprefix("answers:")))


def _guesses(places: list[dict[str, Any]]) -> list[list[int]]:
    return [[guess["id"] for guess in place["guesses"]] for place in places]
