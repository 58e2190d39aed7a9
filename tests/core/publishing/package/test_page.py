"""The page of a package in a headless browser: equal ids and answers, no network, and every error said."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.core.data.samples import contract_for, corpus_of
from tests.core.publishing.browser import CHROMIUM, Page, open_browser, serve
from tests.core.publishing.serving import forget_packages, module_of, served_package
from tests.loopback.mini_hub import MiniHub
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.data import DataOptions, Document, fit_tokenizer
from transformer_foundry.core.publishing import DeploymentOptions
from transformer_foundry.core.publishing.package.model_card import make_card
from transformer_foundry.core.publishing.package.npm_files import page_scripts
from transformer_foundry.core.publishing.package.package import list_files
from transformer_foundry.core.publishing.package.programs import add_programs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]

TASKS = {
    "causal_lm": ("w20 w21", {"maxNewTokens": 12, "temperature": 0}),
    "seq2seq_lm": ("w20 w21", {"maxNewTokens": 12, "temperature": 0}),
    "masked_lm": ("w20 [MASK] w22", None),
    "sequence_classification": ("w20 w21 w22", None),
}


def _why_not() -> str:
    if CHROMIUM is None:
        return "Chromium is not installed"
    try:
        page_scripts(fetch=False)
    except DeploymentError as err:
        return str(err)
    return ""


needs_browser = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "there is a browser")


def visit(folder: Path, steps: Callable[[Page], Any]) -> tuple[Any, Page]:
    """Open the page of ``folder``, take ``steps``, and check that nothing outside the folder was asked for."""

    async def run() -> tuple[Any, Page]:
        with serve(folder) as address:
            async with open_browser() as page:
                await page.open(address + "index.html")
                result = await steps(page)
                outside = [url for url in page.requested if not url.startswith((address, "data:", "blob:"))]
                assert outside == []
                return result, page

    return asyncio.run(run())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A copy of each package with the page."""
    made = {}
    for task in TASKS:
        _, package = served_package(task)
        made[task] = shutil.copytree(package.folder, tmp_path_factory.mktemp("page") / task)
        assert [part["status"] for part in add_programs(made[task], package.manifest)] == ["made"] * 3
    forget_packages()
    return made


@needs_browser
@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_browser_gives_the_answers_of_onnx_runtime(folders: dict[str, Path], task: str) -> None:
    text, settings = TASKS[task]
    model = module_of(folders[task], "inference").Model(folders[task], threads=1)
    method = {"masked_lm": "fillMask", "sequence_classification": "classify"}.get(task)

    async def steps(page: Page) -> Any:
        await page.run(
            "import('./model.js').then(({ Model }) => Model.load()).then((made) => { window.model = made; })"
        )
        if method:
            return await page.run(f"window.model.{method}({json.dumps(text)})")
        loop = f"for await (const step of window.model.generate({json.dumps(text)}, {json.dumps(settings)}))"
        return await page.run(f"(async () => {{ const ids = []; {loop} ids.push(step.token); return ids; }})()")

    found, page = visit(folders[task], steps)
    assert page.errors == []
    if method is None:
        assert found == model.generate(text, max_new_tokens=12, temperature=0).ids
        return
    (expected,) = model.predict([text])
    key = "token" if task == "masked_lm" else "label"
    guesses, wanted = (
        [item for place in answer for item in place.get("guesses", [place])] for answer in (found, expected)
    )
    assert len(wanted) >= 3
    assert [item[key] for item in guesses] == [item[key] for item in wanted]
    assert [item["score"] for item in guesses] == pytest.approx([item["score"] for item in wanted], abs=1e-4)


@needs_browser
def test_a_visitor_sees_each_label_with_its_share(folders: dict[str, Path]) -> None:
    async def steps(page: Page) -> tuple[str, int, float]:
        shown = await page.ask("w20 w21 w22")
        shares = "[...document.querySelectorAll('.share')].map((item) => parseFloat(item.textContent))"
        return shown, await page.run("document.querySelectorAll('.row').length"), sum(await page.run(shares))

    (shown, rows, total), page = visit(folders["sequence_classification"], steps)
    assert rows == 3
    assert total == pytest.approx(100, abs=2)
    assert "Answered in" in shown
    assert page.errors == []


@needs_browser
def test_a_visitor_sees_an_error_and_can_continue(folders: dict[str, Path]) -> None:
    async def steps(page: Page) -> list[str]:
        shown = [await page.ask("w20 w21"), await page.ask("w20 [MASK] w22"), await page.ask("w20 " * 40 + "[MASK]")]
        await page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        return [*shown, await page.run("String(document.documentElement.scrollWidth)")]

    (unhidden, answered, beyond, width), page = visit(folders["masked_lm"], steps)
    assert "No token is hidden" in unhidden
    assert "Hidden token 1" in answered
    assert "No token is hidden" not in answered
    assert "beyond the 24 tokens" in beyond
    assert width == "390"
    assert page.errors == []


@needs_browser
@pytest.mark.parametrize("missing", ["model.onnx", "tokenizer.json", "ort-wasm-simd-threaded.wasm"])
def test_a_file_that_is_missing_is_named(folders: dict[str, Path], tmp_path: Path, missing: str) -> None:
    folder = shutil.copytree(folders["causal_lm"], tmp_path / "package")
    (folder / missing).unlink()

    async def steps(page: Page) -> Any:
        status = "document.getElementById('status')"
        return await page.run(f"[{status}.textContent, {status}.className, document.getElementById('run').disabled]")

    (message, look, is_disabled), _ = visit(folder, steps)
    assert (look, is_disabled) == ("bad", True)
    assert missing in message


def strings(count: int) -> list[str]:
    """Real paragraphs, and what people paste: other scripts, emoji, odd spaces, names of special tokens."""
    from pydoc_data import topics

    draw = random.Random(0)
    paragraphs = [part for text in topics.topics.values() for part in text.split("\n\n")]
    codes = [*range(32, 127), *range(160, 592), *range(1024, 1120), *range(0x4E00, 0x4E40), *range(0x1F600, 0x1F640)]
    odd = [0, 9, 10, 13, 0x85, 0x301, 0x1680, 0x200D, 0x2028, 0x3000, 0xFEFF]
    mixed = ["".join(map(chr, draw.choices([*codes, *odd * 5], k=draw.randint(1, 60)))) for _ in range(280)]
    pasted = [
        "",
        "  ",
        " a",
        "a ",
        "<|eos|>",
        "<|unk|>x",
        "[MASK]",
        "\r\n",
        "don't I'LL",
        "e\u0301",
        "\U0001f469\u200d\U0001f467",
    ]
    return [*pasted, *mixed, *draw.sample(paragraphs, count - len(mixed) - len(pasted))]


@needs_browser
def test_the_browser_gives_a_thousand_strings_the_ids_of_the_tokenizer(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["causal_lm"], tmp_path / "package")
    texts, expected = strings(1000), {}
    corpus = corpus_of([Document(text) for text in texts[-600:]], "causal_lm")
    (folder / "texts.json").write_text(json.dumps(texts))
    for name, size in (("bpe", 700), ("bytes", 700), ("characters", 120)):
        tokenizer = fit_tokenizer(corpus, contract_for("causal_lm", size), DataOptions(tokenizer=name))
        tokenizer.save(folder / name)
        ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        expected[name] = [ids, [tokenizer.decode(row) for row in ids]]
    assert len({len(str(content)) for content in expected.values()}) == 3

    async def steps(page: Page) -> Any:
        return await page.run(
            """(async () => {
              const { Text } = await import("./model.js");
              const read = async (name) => (await fetch(name)).json();
              const [manifest, texts] = [await read("manifest.json"), await read("texts.json")];
              const found = {};
              for (const name of ["bpe", "bytes", "characters"]) {
                const text = new Text(manifest, await read(`${name}/tokenizer.json`));
                const ids = texts.map((item) => text.plainIds(item));
                found[name] = [ids, ids.map((row) => text.decode(row))];
              }
              return found;
            })()"""
        )

    found, _ = visit(folder, steps)
    for name, (ids, decoded) in expected.items():
        assert found[name][0] == ids, name
        assert found[name][1] == decoded, name


@needs_browser
def test_the_folder_published_as_a_space_by_the_documented_commands_answers(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["causal_lm"], tmp_path / "package")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"] = add_programs(folder, manifest)
    (folder / "README.md").write_text(make_card(manifest, list_files(folder), DeploymentOptions()))
    documented = (ROOT / "docs" / "serving.md").read_text()
    commands = re.findall(r"^hf (.*--repo-type space.*)$", documented, re.MULTILINE)
    assert len(commands) == 2
    with MiniHub({"hf_alice": "alice"}) as hub:
        environment = os.environ | hub.env("hf_alice", home=tmp_path)
        for command in commands:
            words = command.replace("USER/NAME", "alice/try-it").split()
            subprocess.run([Path(sys.executable).with_name("hf"), *words], cwd=folder, env=environment, check=True)
        space = hub.repo("alice/try-it", "spaces")
        metadata = yaml.safe_load(space.head.files["README.md"].data.split(b"---")[1])
        for name, file in space.head.files.items():
            (tmp_path / "served").mkdir(exist_ok=True)
            (tmp_path / "served" / name).write_bytes(file.data)
    assert (space.sdk, metadata["sdk"], metadata["app_file"]) == ("static", "static", "index.html")
    shown, page = visit(tmp_path / "served", lambda page: page.ask("w20 w21"))
    assert "40 tokens in" in shown
    assert page.errors == []


@needs_browser
def test_the_page_says_how_to_open_it_when_it_is_opened_as_a_file() -> None:
    page_file = Path(add_programs.__code__.co_filename).parent / "templates" / "index.html"

    async def run() -> str:
        async with open_browser() as page:
            await page.open(page_file.as_uri())
            return str(await page.run("document.getElementById('status').textContent"))

    assert asyncio.run(run()).startswith("This page does not work as a file: run python -m http.server 8080")
