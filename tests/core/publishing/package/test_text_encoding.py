"""One text, one row: the ids of the program, of transformers and of the page, for six kinds of tokenizers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from pydoc_data import topics
from typing import Any

import pytest

from tests.core.data.samples import contract_for, corpus_of
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.data import DataOptions, Document, fit_tokenizer
from transformer_foundry.core.export.transformers_code.auto_map import prepare_tokenizer
from transformer_foundry.core.publishing.package import programs
from transformer_foundry.core.publishing.package.manifest import describe_encoding, special_token_ids
from transformer_foundry.core.publishing.package.npm_files import page_scripts
from transformer_foundry.core.publishing.package.templates.text_encoding import InputError, TextEncoding
from transformer_foundry.core.publishing.package.templates.text_generation import GrowingText

pytestmark = pytest.mark.slow

TEMPLATES = Path(programs.__file__).parent / "templates"
KINDS = ("bpe", "bytes", "characters", "word", "wordpiece", "unigram")
MAX_LENGTH = 48
TOO_LONG = "The list " * 60
PLAIN = [
    "The value of", " leading", "trailing ", "  two  blanks  ", "\n\nA new line", "tab\there", "naïve café", "你好",
    "e\u0301 and é", "\U0001f469\u200d\U0001f467 family", "\xa0fixed\xa0", "\u3000wide", "Zeile\r\nzwei", "x" * 30,
    "a.b , c ! d ? n't 's", TOO_LONG, "UPPER lower", "1234567890", "\ufeffmark", "\x85next", "\u2028line", "don't",
    "ﬁ ligature", "# code\n    indented", "()[]{}", "a  b   c    d", "ß \u0130 \u0131", "\u0430\u0431\u0432", "-",
    "'", "value",
    "The value of the argument is returned", "if x: return y\n", "zero\u200bwidth", "¿qué?", "a\u0301\u0302", "::",
]  # fmt: skip
SPECIAL = ["<|eos|> is text", "a <|bos|> b", "<|pad|>", "[PAD] [SEP] x", "<s> </s> <unk>", "[MASK] here", "<mask>"]
HIDDEN = [
    "The value [MASK] the list", "The value[MASK]the list", "[MASK] value of", " [MASK]", "[MASK]", "a  [MASK]  b",
    "a [MASK] [MASK] b", "naïve [MASK] 你好", "The [MASK]\n list", "\n[MASK] x", "a\t[MASK]",
    "a\xa0[MASK] b", "[MASK]  ",
    "trailing [MASK] ", " leading [MASK]", "a\u3000[MASK]", "a\x85[MASK]", "a\ufeff[MASK]", "x[MASK][MASK]y",
    "a\x1c[MASK]",
    "The list of [MASK] " * 30,
]  # fmt: skip
AUTO = """
import json, sys, transformers
for folder, texts in json.load(sys.stdin):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [text.replace("[MASK]", tokenizer.mask_token) if tokenizer.mask_token else text for text in texts]
    print("ids:" + json.dumps([tokenizer(text, truncation=True)["input_ids"] for text in texts]))
"""
PAGE = """
import { readFileSync } from "node:fs";
const { Text } = await import(process.argv[2]);
const answers = JSON.parse(readFileSync(0, "utf8")).map(([folder, texts]) => {
  const read = (name) => JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
  const text = new Text(read("manifest.json"), read("tokenizer.json"));
  const hides = text.maskId !== null;
  const row = (item) => (hides ? text.hiddenIds(item) : text.encode(item));
  const answer = (item) => { try { return row(item); } catch (error) { return error.message; } };
  return texts.map(answer);
});
for (const ids of answers) console.log("ids:" + JSON.stringify(ids));
"""


def _scripts() -> list[Path]:
    try:
        return page_scripts(fetch=False)
    except DeploymentError:
        return []


def prepared(kind: str, task: str, folder: Path) -> dict[str, Any]:
    """Write a tokenizer and a manifest as a package has them, and return the manifest."""
    documents = [Document(text) for text in sorted(topics.topics.values())[:12]]
    contract = contract_for(task, 1200, max_length=MAX_LENGTH)
    tokenizer = fit_tokenizer(corpus_of(documents, task), contract, DataOptions(tokenizer=kind))
    tokenizer.save(folder)
    manifest = {
        "model": {"task": task, "contract": {"max_length": MAX_LENGTH}},
        "special_token_ids": special_token_ids(contract, tokenizer),
        "encoding": describe_encoding(contract, tokenizer, {}),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    prepare_tokenizer(folder, manifest)
    return manifest


def ids_of(manifest: dict[str, Any], folder: Path, texts: list[str]) -> list[Any]:
    task, special = manifest["model"]["task"], manifest["special_token_ids"]
    text = TextEncoding(folder / "tokenizer.json", manifest["encoding"], task, MAX_LENGTH, special["mask"])
    answers: list[Any] = []
    for item in texts:
        try:
            answers.append(text.hidden_ids(item) if task == "masked_lm" else text.encode(item))
        except InputError as err:
            answers.append(str(err))
    return answers


def printed_ids(command: list[str], given: Any) -> list[list[Any]]:
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("ids:")]


@pytest.fixture(scope="module", params=["causal_lm", "masked_lm"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Any, list[str]]]:
    """For each kind of tokenizer its folder, the ids of the program, and the texts."""
    made = []
    texts = HIDDEN if request.param == "masked_lm" else PLAIN + SPECIAL
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(f"{kind}-{request.param}")
        made.append((folder, ids_of(prepared(kind, request.param, folder), folder, texts), texts))
    return made


def differences(rows: list[Any], found: list[list[Any]]) -> list[tuple[str, str, Any, Any]]:
    return [
        (folder.name, text, ids, other)
        for (folder, expected, texts), answers in zip(rows, found, strict=True)
        for text, ids, other in zip(texts, expected, answers, strict=True)
        if ids != other
    ]


def test_transformers_makes_the_rows_of_the_program(rows: list[Any]) -> None:
    found = printed_ids([sys.executable, "-c", AUTO], [(str(folder), texts) for folder, _, texts in rows])
    different = differences(rows, found)
    # A text to continue keeps its end in the programs; transformers cuts it, if asked to, at the other side.
    assert [item for item in different if item[1] != TOO_LONG] == []
    assert all(len(ids) == len(other) == MAX_LENGTH for _, _, ids, other in different)


@pytest.mark.skipif(
    shutil.which("node") is None or not _scripts(), reason="Node or the scripts of the page are missing"
)
def test_the_page_makes_the_rows_of_the_program(rows: list[Any], tmp_path: Path) -> None:
    for path in (*_scripts(), TEMPLATES / "model.js"):
        shutil.copy(path, tmp_path)
    (tmp_path / "rows.mjs").write_text(PAGE)
    command = ["node", str(tmp_path / "rows.mjs"), (tmp_path / "model.js").as_uri()]
    different = differences(rows, printed_ids(command, [(str(folder), texts) for folder, _, texts in rows]))
    # The JavaScript library takes these two for a blank and for nothing, the other way round than Rust's.
    assert [item for item in different if not ("wordpiece" in item[0] and set("\ufeff\x85") & set(item[1]))] == []


def test_pieces_of_text_join_to_the_whole(rows: list[Any]) -> None:
    for folder, expected, _ in rows:
        settings = json.loads((folder / "manifest.json").read_text())["encoding"]
        text = TextEncoding(folder / "tokenizer.json", settings, "causal_lm", MAX_LENGTH, None)
        for ids in expected:
            # Another order tears characters apart.
            for order in [ids, ids[::-1]] if isinstance(ids, list) else []:
                grown = GrowingText(text.decode, text.name)
                assert "".join([*map(grown.add, order), grown.finish()]) == text.decode(order), folder.name
