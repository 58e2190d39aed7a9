"""Secrets are known by name and by look, and nothing else is taken for one."""

from __future__ import annotations

import html
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import markupsafe
import plotly.graph_objects as go
import pytest

import transformer_foundry
from tests.faults.limits import limited
from transformer_foundry.console.log_format import RedactedRecord
from transformer_foundry.core.base import secrets
from transformer_foundry.core.base.errors import FoundryError, error_message
from transformer_foundry.core.base.text import markdown_text, one_line, printable, spreadsheet_cell
from transformer_foundry.core.checks.probing.finding import Finding
from transformer_foundry.core.files.atomic import write_json
from transformer_foundry.core.files.json_lines import append_row
from transformer_foundry.core.models.error_meanings import describe
from transformer_foundry.core.models.model_errors import explain_failure
from transformer_foundry.core.publishing.registry.event_log import RegistryLog
from transformer_foundry.core.system.environment import describe_environment
from transformer_foundry.datasets.atomic_json import AtomicJSONDataset
from transformer_foundry.datasets.plotly_figure import PlotlyFigureDataset

CANARY = "canary0123456789"


def test_the_folder_of_the_shell_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/home/someone/project")
    assert secrets.redact("/home/someone/project/data.csv") == "/home/someone/project/data.csv"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "WANDB_API_KEY",
        "PGPASSWORD",
        "db_password",
        "AWS_SECRET_ACCESS_KEY",
        "OPENAI_KEY",
        "DB_PASS",
        "MY_PAT",
        "DATABASE_URL",
        "REDIS_URL",
        "SLACK_WEBHOOK_URL",
        "AZURE_STORAGE_CONNECTION_STRING",
        "SSHPASS",
        "GITHUB_TOKEN_2",
        "API_KEYS",
        "HF_TOKENS",
        "DB_PASSWORD1",
        "OPENAI_KEY_PROD",
        "DB_PASS_STAGING",
        "TOKEN_GITHUB",
        "HUGGINGFACE_TOKEN_READ",
        "SLACK_WEBHOOK",
        "COOKIE",
        "LDAP_BIND_PW",
    ],
)
def test_the_value_of_a_variable_named_like_a_secret_is_replaced(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, CANARY)
    assert secrets.redact(f"401 for {CANARY}!") == "401 for [redacted]!"


@pytest.mark.parametrize(
    "name",
    [
        "pad_token_id",
        "logits_key",
        "tokenizer",
        "monkey",
        "sample_tokens",
        "PASSPORT_OFFICE",
        "base_url",
        "token_ids_2",
    ],
)
def test_an_ordinary_name_is_no_secret(name: str) -> None:
    assert not secrets.is_secret_name(name)


@pytest.mark.parametrize("name", ["SSH_AUTH_SOCK", "TOKEN_FILE", "SSH_KEY_PATH", "KEYBOARD", "PASSPORT", "TOKENIZERS"])
def test_the_value_of_another_variable_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, CANARY)
    assert secrets.redact(f"at {CANARY}!") == f"at {CANARY}!"


@pytest.mark.parametrize("text", ["hf_" + "a" * 34, "ghp_" + "b" * 36, "AIza" + "c" * 35])
def test_what_looks_like_a_key_is_replaced_wherever_it_came_from(text: str) -> None:
    assert secrets.redact(f"token={text}") == "token=[redacted]"


KEYS = (
    "hf_" + "a" * 34, "ghp_" + "b" * 36, "github_pat_" + "c" * 30, "glpat-" + "d" * 20, "AIza" + "e" * 35,
    "AKIA" + "F" * 16, "ASIA" + "G" * 16, "wandb_v1_" + "h" * 30, "sk-" + "i" * 40, "sk-ant-api03-" + "j" * 30,
    "xoxb-123456789012-" + "k" * 24, "xapp-1-" + "l" * 20, "npm_" + "m" * 36, "pypi-" + "n" * 60, "sk_live_" + "o" * 24,
    "hooks.slack.com/services/T00/B00/" + "v" * 24,
    "SG." + "p" * 22 + "." + "q" * 43, "123456789:" + "r" * 35, "eyJ" + "s" * 20 + ".eyJ" + "t" * 20 + "." + "u" * 20,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQ\n-----END RSA PRIVATE KEY-----",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", ["{}", "x={}", "'{}'", "at https://host/{}/a: {}.", "Bearer {}"])
def test_a_known_form_is_replaced_wherever_it_stands(key: str, text: str) -> None:
    assert key not in secrets.redact(text.replace("{}", key))
    assert key[-8:] not in secrets.redact(text.replace("{}", key))


SECRET = "pw2!"


@pytest.mark.parametrize(
    "address",
    [
        "https://host/a.csv?pass=pw2!", "https://host/a.csv?code=pw2!", "https://host/a.csv?x=1&jwt=pw2!&y=2",
        "https://host/a;token=pw2!/b.csv", "https://host/a.csv#token=pw2!", "https://pw2!@host/a.csv",
        "https://me:pw2!@host/a.csv", "https://pw2!:x-oauth-basic@host/a.csv", "s3://me:a/b/pw2!@bucket/key",
        "zip://a.csv::https://pw2!@host/a.zip?sig=pw2!", "postgresql+psycopg2://me:p@ss/pw2!@host:5/name?sslkey=pw2!",
        "host/a.csv?access_token=pw2!", "password=pw2!", "{'api_key': 'pw2!'}", "SecretAccessKey: pw2!",
        "password='a b pw2!'", 'password="a\'b pw2!"', 'passwd: "x y pw2!"', 'secret = """abc pw2!"""',
        r'{\"password\": \"a pw2!\"}',
        "//me:pw2!@host/a", r"https:\/\/me:pw2!@host\/a", "Authorization: Token pw2!", "Cookie: a=b; session=pw2!",
        "run --password pw2! x", "run --db-password pw2!",
    ],
)  # fmt: skip
def test_an_address_keeps_scheme_host_and_path_only(address: str) -> None:
    for text in (address, f"'{address}' cannot be read: {address}", f"({address})."):
        assert SECRET not in secrets.redact(text)
    if "://" in address:
        shown = secrets.redact(address)
        assert "host" in shown or "bucket" in shown
        assert secrets.redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://docs.example.org/page.html#resume", "http://127.0.0.1:8000/health", "https://host:80/a@b", "a@b.c",
        "sqlite:////data/study.db", "s3://bucket/data/part-0001.parquet", "pad_token_id: 0, eos_token=</s>, tokens: 3",
        "data/01_raw/exports/MyGreatModel2024Version", "0123456789abcdef" * 4, "task-specific-prediction-head",
    ],
)  # fmt: skip
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert secrets.redact(text) == text
    assert secrets.redact_values({"a": text}) == {"a": text}


@pytest.mark.parametrize("word", ["kR7xQ2mZ9pL4vB8nT1cYw3", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"])
def test_a_value_that_looks_random_is_replaced(word: str) -> None:
    assert secrets.redact_values({"a": [word], "b": f"x {word}"}) == {"a": ["[redacted]"], "b": "x [redacted]"}
    assert secrets.without_secrets({"a": word, "b": [{"c": word}]}) == {"b": [{}]}


def test_secrets_are_replaced_at_any_depth() -> None:
    found = secrets.redact_values({"a": [{"b": "hf_" + "a" * 34}, 3], "c": ("x://me:p@ss@host",)})
    assert found == {"a": [{"b": "[redacted]"}, 3], "c": ["x://[redacted]@host"]}


def test_credentials_of_the_project_are_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_remembered", set())
    secrets.remember_secrets(
        {"bucket": {"keys": [CANARY], "user": "me"}, "db": {"password": 1234567890123, "port": 5432}}
    )
    assert secrets.redact(f"me {CANARY}") == "me [redacted]"
    assert secrets.redact("1234567890123 at 5432") == "[redacted] at 5432"


HARD = 'a\tb  C4nary"q\\te-é ZZ\n"tail\'&/?0123%'


@pytest.mark.parametrize(
    "form",
    [
        str, repr, ascii, json.dumps, lambda text: json.dumps(text, ensure_ascii=False), html.escape, quote, quote_plus,
        lambda text: " ".join(text.split()), lambda text: json.dumps(json.dumps({"a": text})), printable, one_line,
        lambda text: repr(repr(text)), lambda text: repr(KeyError(text)), lambda text: repr(text.encode()),
        lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()), markupsafe.escape,
        lambda text: "".join(f"&#{ord(character)};" for character in text),
        lambda text: "".join(f"&#x{ord(character):x};" for character in text),
        lambda text: json.dumps(text).replace("/", r"\/"),
    ],
)  # fmt: skip
def test_a_secret_is_redacted_in_every_form(monkeypatch: pytest.MonkeyPatch, form: Callable[[str], str]) -> None:
    monkeypatch.setenv("MY_TOKEN", HARD)
    assert re.search("C4nary|te-|ZZ|tail|0123", secrets.redact(f"it is {form(HARD)}.")) is None


def test_a_message_is_redacted_before_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", f"one {CANARY}\ntwo " + CANARY * 9)
    error = RuntimeError("x" * 200 + os.environ["MY_TOKEN"])
    shown = [error_message(error, 240), error_message(error, first_line=True), describe(error)]
    shown += [str(explain_failure(error, "it to run", None)), str(FoundryError(str(error)))]
    shown += [str(describe(KeyError("x" * 200 + os.environ["MY_TOKEN"])))]
    assert CANARY[:6] not in " ".join(shown)


def test_no_module_cuts_what_an_exception_says_before_it_is_redacted() -> None:
    cut = re.compile(r"str\((err|error|exception|cause)\)(\.strip\(\))?(\[|\.split)")
    package = Path(transformer_foundry.__file__).parent
    files = [path for path in package.rglob("*.py") if not {"templates", "transformers_code"} & {*path.parts}]
    # Errors of data are redacted by FoundryError; their files are local.
    found = [path.name for path in files if cut.search(path.read_text()) and "data" not in path.parts]
    assert found == []


def test_findings_and_written_results_hold_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_TOKEN", CANARY)
    finding = Finding("build", "error", f"a {CANARY}", f"b {CANARY}", f"c {CANARY}")
    record = {"a": [{CANARY: f"x {CANARY}"}], "b": 1.5}
    write_json(tmp_path / "a.json", record)
    AtomicJSONDataset(filepath=str(tmp_path / "b.json")).save(record)
    append_row(tmp_path / "c.jsonl", record)
    RegistryLog(tmp_path).append(record)
    figure = go.Figure(go.Bar(x=[CANARY], y=[1]))
    PlotlyFigureDataset(filepath=str(tmp_path / "d.json")).save(figure)
    written = "".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
    assert CANARY not in f"{finding} {written} {spreadsheet_cell(CANARY)} {markdown_text(CANARY)}"
    assert written.count("[redacted]") >= 9


def test_an_error_and_the_recorded_command_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setattr(sys, "argv", ["kedro", f"--params=x={CANARY}"])
    error = FoundryError(f"The token {CANARY} is wrong.")
    assert CANARY not in f"{error} {error!r} {error.args} {describe_environment()['command']}"


def test_a_log_record_is_cleaned_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    try:
        raise ValueError(CANARY)
    except ValueError:
        record = RedactedRecord("n", logging.ERROR, "f", 1, "%s failed", (CANARY,), sys.exc_info())
    shown = logging.Formatter("%(message)s").format(record)
    assert CANARY not in shown
    assert "ValueError: [redacted]" in shown


def test_the_traceback_of_an_unexpected_error_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    program = (
        "import os; from transformer_foundry.console.log_format import install_log_format; install_log_format(); "
        "raise RuntimeError(os.environ['HF_TOKEN'])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "RuntimeError: [redacted]" in answer.stderr
    assert CANARY not in answer.stderr


REPEATED = (
    "-", "_", ".", "a", "-a", "gl-", "sk-", "eyJ", "eyJ-", "SG.", "\\", " ", "\n", "password ", "password=", "?a",
    "?key", "bearer ", "://", "http://h/", "http://a@", ").", "::a", "-----BEGIN ", "123456789:", "aB1", "%0A",
    "secret'", "cookie: ", "authorization:", "--token ", "--a-", "//a:", "password='", 'password="""', "&#", "%2",
)  # fmt: skip


@pytest.mark.parametrize("part", REPEATED)
@pytest.mark.parametrize("before", ["", "http://h/", "password=", "?"])
def test_the_time_grows_with_the_text_and_not_with_its_square(
    monkeypatch: pytest.MonkeyPatch, before: str, part: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a\\ b-c.secret 1234")
    text = before + part * (100_000 // len(part))
    with limited(memory_mib=512, seconds=10):
        secrets.redact(text)
        secrets.redact_values({"a": text})
