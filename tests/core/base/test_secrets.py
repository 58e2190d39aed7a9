"""Secrets are known by name and by look, and nothing else is taken for one."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from transformer_foundry.console.log_format import RedactedRecord
from transformer_foundry.core.base import secrets
from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.system.environment import describe_environment

CANARY = "canary0123456789"


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
    ],
)
def test_the_value_of_a_variable_named_like_a_secret_is_replaced(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, CANARY)
    assert secrets.redact(f"401 for {CANARY}!") == "401 for [redacted]!"


@pytest.mark.parametrize(
    "name", ["pad_token_id", "logits_key", "tokenizer", "monkey", "sample_tokens", "PASSPORT_OFFICE"]
)
def test_an_ordinary_name_is_no_secret(name: str) -> None:
    assert not secrets.is_secret_name(name)


@pytest.mark.parametrize("text", ["hf_" + "a" * 34, "ghp_" + "b" * 36, "AIza" + "c" * 35])
def test_what_looks_like_a_key_is_replaced_wherever_it_came_from(text: str) -> None:
    assert secrets.redact(f"token={text}") == "token=[redacted]"


def test_what_signs_an_address_is_replaced() -> None:
    address = "https://host/a.csv?part=1&X-Amz-Signature=0f0f&sv=2#top"
    assert secrets.redact(address) == "https://host/a.csv?part=1&X-Amz-Signature=[redacted]&sv=2#top"


def test_secrets_are_replaced_at_any_depth() -> None:
    found = secrets.redact_values({"a": [{"b": "hf_" + "a" * 34}, 3], "c": ("x://me:p@ss@host",)})
    assert found == {"a": [{"b": "[redacted]"}, 3], "c": ["x://me:[redacted]@host"]}


def test_the_password_in_a_url_is_redacted() -> None:
    assert (
        secrets.redact("mysql://me:pw@host/x https://host:80/a@b") == "mysql://me:[redacted]@host/x https://host:80/a@b"
    )


def test_credentials_of_the_project_are_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_remembered", set())
    secrets.remember_secrets({"bucket": {"keys": [CANARY], "user": "me"}})
    assert secrets.redact(f"me {CANARY}") == "me [redacted]"


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
