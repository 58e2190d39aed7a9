from __future__ import annotations

import pytest

from transformer_foundry.core.data.sources.read_errors import explain_remote_error


class DatasetGenerationError(Exception):
    """Named like the wrapper of the datasets library."""


class GatedRepoError(Exception):
    """Named like the error of huggingface_hub."""


def wrapped(cause):
    wrapper = DatasetGenerationError("An error occurred while generating the dataset")
    wrapper.__cause__ = cause
    return wrapper


@pytest.mark.parametrize(
    ("cause", "problem", "remedy"),
    [
        (ValueError("what really happened"), "what really happened", "download its files"),
        (GatedRepoError("403"), "is gated", "HF_TOKEN"),
        (ConnectionError("no route"), "cannot be reached", "'built-in:countries'"),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), "loading script", "parquet"),
    ],
)
def test_the_wrapper_of_the_library_never_reaches_the_user(cause, problem, remedy):
    error = explain_remote_error(wrapped(cause), "owner/name")
    assert problem in error.problem
    assert remedy in error.remedy
    assert "An error occurred" not in str(error)


class HTTPStatusError(Exception):
    """Like the error of an HTTP client."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.response = type("Response", (), {"status_code": status})()


@pytest.mark.parametrize(
    ("status", "problem", "remedy"),
    [
        (401, "HTTP 401", "HF_TOKEN"),
        (403, "HTTP 403", "HF_TOKEN"),
        (404, "no dataset owner/name", "data.source"),
        (429, "HTTP 429", "Wait a few minutes"),
        (500, "HTTP 500", "Run again later"),
        (503, "HTTP 503", "Run again later"),
    ],
)
def test_what_a_server_answers_is_said_with_what_to_do(status, problem, remedy):
    error = explain_remote_error(wrapped(HTTPStatusError(status)), "owner/name")
    assert problem in error.problem
    assert remedy in error.remedy


def test_the_choices_of_a_configuration_are_passed_on():
    err = ValueError("Config name is missing.\nPlease pick one among the available configs: ['en', 'de']\nExample")
    error = explain_remote_error(err, "owner/name")
    assert error.expected == "Available: ['en', 'de']."
    assert "data.config_name" in error.remedy
