"""Gists are downloaded and cached by revision, and every failure says what to do."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.models.samples import CONFIG, NO_ARGUMENTS, a_model
from tests.loopback.gist_server import Failure, GistServer
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import read_export
from transformer_foundry.core.models.source.download import Downloads
from transformer_foundry.core.models.source.gist import Gist, fetch_gist, parse_gist

ID = "0123456789abcdef0123456789abcdef"
REVISION = "a" * 40
NEWEST = Gist(ID)
HEX = "0123456789abcdef"
CODE = "from torch import nn\n\nclass Net(nn.Module):\n    pass\n"
FILES = {"model.py": CODE, "config.json": json.dumps(CONFIG)}


@pytest.fixture
def server() -> Iterator[GistServer]:
    with GistServer() as running:
        running.gists[ID] = [FILES]
        yield running


class Pauses(list[float]):
    """Pauses that are recorded instead of slept."""


@pytest.fixture
def fetch(server: GistServer, tmp_path: Path):
    """Fetch the gist; the pauses between attempts are recorded."""
    pauses = Pauses()

    def do(gist: Gist = NEWEST, **options) -> tuple[Path, str | None, Pauses]:
        downloads = Downloads(timeout_s=options.pop("timeout_s", 5.0), sleep=pauses.append)
        folder, revision = fetch_gist(gist, tmp_path / "cache", api_url=server.url, downloads=downloads, **options)
        return folder, revision, pauses

    return do


def test_a_gist_is_read_like_a_folder(server, tmp_path) -> None:
    export = read_export(ID, api_url=server.url, cache_dir=tmp_path)
    assert export.model_code == CODE
    assert export.config == CONFIG
    assert export.revision == server.revision(ID)
    assert export.sha256["model.py"] == hashlib.sha256(CODE.encode()).hexdigest()
    assert export.folder == tmp_path / "gist" / ID / server.revision(ID)
    assert export.source == ID


def test_a_pinned_revision_is_read(server, tmp_path) -> None:
    server.gists[ID].append({**FILES, "model.py": CODE + "# newer\n"})
    old = read_export(ID, revision=server.revision(ID, 0), api_url=server.url, cache_dir=tmp_path)
    new = read_export(f"https://gist.github.com/someone/{ID}", api_url=server.url, cache_dir=tmp_path)
    assert (old.revision, new.revision) == (server.revision(ID, 0), server.revision(ID, 1))
    assert old.identity != new.identity
    assert (old.model_code, new.model_code) == (CODE, CODE + "# newer\n")


def test_a_cached_revision_needs_no_network(server, fetch) -> None:
    folder, revision, _ = fetch()
    asked = len(server.requests)
    assert fetch(Gist(ID, revision))[0] == folder
    assert len(server.requests) == asked


@pytest.mark.parametrize("damage", ["", "{}", "not json"])
def test_a_damaged_copy_is_downloaded_again(server, fetch, damage) -> None:
    folder, revision, _ = fetch()
    (folder / ("model.py" if not damage else "sha256.json")).write_text(damage)
    assert (fetch(Gist(ID, revision))[0] / "model.py").read_text() == CODE


def test_a_truncated_file_is_downloaded_whole(server, fetch) -> None:
    server.gists[ID] = [{**FILES, "model.py": a_model(NO_ARGUMENTS)}]
    folder, _, _ = fetch(token="secret-token")
    assert (folder / "model.py").read_text() == a_model(NO_ARGUMENTS)
    (api, api_headers), (raw, raw_headers) = server.requests
    assert (api, raw.split("/")[1]) == (f"/gists/{ID}", "raw")
    assert api_headers["authorization"] == "Bearer secret-token"
    assert "authorization" not in raw_headers


def test_a_truncated_file_is_not_downloaded_from_another_host(server, fetch) -> None:
    server.gists[ID] = [{**FILES, "model.py": a_model(NO_ARGUMENTS)}]
    server.raw_host = "http://169.254.169.254"
    with pytest.raises(ModelError, match=r"169\.254\.169\.254, which is not GitHub"):
        fetch()


class Response(Downloads):
    """Responds to every request with the same bytes."""

    def __init__(self, **file: object) -> None:
        files = {name: {"content": "{}", **file} for name in FILES}
        object.__setattr__(self, "body", json.dumps({"files": files}).encode())

    def get(self, url: str, *, token: str | None = None) -> bytes:
        return self.body


@pytest.mark.parametrize(
    "url", ["file://gist.github.com/etc/passwd", "ftp://gist.github.com/x", "http://gist.github.com"]
)
def test_a_truncated_file_is_downloaded_only_over_https(tmp_path, url) -> None:
    with pytest.raises(ModelError, match=r"gist\.github\.com"):
        fetch_gist(Gist(ID), tmp_path, downloads=Response(truncated=True, raw_url=url))


def test_a_file_that_is_not_base64_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"model\.py is not valid base64"):
        fetch_gist(Gist(ID), tmp_path, downloads=Response(encoding="base64", content="\u00e9"))


def test_a_redirect_to_another_host_is_refused(server, fetch) -> None:
    server.failures = [Failure(302, {"Location": "http://localhost:1/gists"})]
    with pytest.raises(ModelError, match="redirects to another host, localhost"):
        fetch()


@pytest.mark.parametrize("failure", [Failure(500), Failure(503), Failure(breaks_off=True)])
def test_a_temporary_failure_is_retried_with_back_off(server, fetch, failure) -> None:
    server.failures = [failure, failure, failure]
    folder, _, pauses = fetch()
    assert (folder / "model.py").read_text() == CODE
    assert pauses == [1.0, 2.0, 4.0]


def test_retry_after_is_respected(server, fetch) -> None:
    server.failures = [Failure(503, {"Retry-After": "7"}), Failure(503, {"Retry-After": "3600"})]
    assert fetch()[2] == [7.0, 30.0]


def test_a_server_without_a_response_is_abandoned(server, fetch) -> None:
    server.failures = [Failure(hangs=True)] * 4
    with pytest.raises(ModelError, match="attempts: 4"):
        fetch(timeout_s=0.05)


def test_an_unreachable_server_is_explained(tmp_path) -> None:
    downloads = Downloads(sleep=Pauses().append)
    with pytest.raises(ModelError, match="Check the network") as caught:
        fetch_gist(Gist(ID), tmp_path, api_url="http://127.0.0.1:9", downloads=downloads)
    assert str(caught.value).count("\n") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gist", [Gist("f" * 32), Gist(ID, REVISION)])
def test_a_gist_that_does_not_exist_is_named(fetch, gist) -> None:
    with pytest.raises(ModelError, match=f"GitHub has no gist {gist.id}"):
        fetch(gist)


@pytest.mark.parametrize(
    ("status", "headers", "minutes"),
    [
        (429, {"Retry-After": "90"}, 2),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+590"}, 10),
        (429, {}, 60),
    ],
)
def test_a_rate_limit_says_when_to_try_again(server, fetch, status, headers, minutes) -> None:
    now = int(time.time())
    headers = {name: str(now + int(value)) if value.startswith("+") else value for name, value in headers.items()}
    server.failures = [Failure(status, headers)]
    with pytest.raises(ModelError, match=rf"Try again in {minutes} minutes, or set GITHUB_TOKEN"):
        fetch()
    assert len(server.requests) == 1


def test_a_refusal_without_rate_limit_headers_is_no_rate_limit(server, fetch) -> None:
    server.failures = [Failure(403)]
    with pytest.raises(ModelError, match="the response is 403"):
        fetch()


def test_a_rejected_token_is_named_but_not_shown(server, fetch) -> None:
    server.failures = [Failure(401)]
    with pytest.raises(ModelError, match="GITHUB_TOKEN") as caught:
        fetch(token="secret-token")
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({"notes.md": "x"}, "no model.py and no config.json"),
        ({"model.py": CODE, "b.txt": ""}, "no config.json"),
    ],
)
def test_missing_files_are_named_with_the_existing_ones(server, fetch, files, missing) -> None:
    server.gists[ID] = [files]
    with pytest.raises(ModelError, match=missing) as caught:
        fetch()
    assert ", ".join(sorted(files)) in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"files": [1]}',
        b"[" * 100_000,
        b"null",
        b'{"files": {"model.py": {}, "config.json": {"content": 3}}}',
    ],
)
def test_an_invalid_response_is_refused(server, fetch, body) -> None:
    server.failures = [Failure(200, body=body)]
    with pytest.raises(ModelError):
        fetch()


def test_a_file_that_is_too_large_is_not_downloaded(server, fetch) -> None:
    server.failures = [
        Failure(
            200,
            body=json.dumps(
                {"files": {"model.py": {"size": 10**9, "truncated": True, "raw_url": server.url}, "config.json": {}}}
            ).encode(),
        )
    ]
    with pytest.raises(ModelError, match="954 MiB"):
        fetch()


class TestNames:
    @settings(deadline=None)
    @given(st.text(HEX, min_size=20, max_size=40), st.none() | st.text(HEX, min_size=40, max_size=40))
    def test_an_id_is_found_in_every_spelling(self, number, revision) -> None:
        tail = f"/{revision}" if revision else ""
        for spelling in (
            number.upper() + tail,
            f"https://gist.github.com/someone/{number}{tail}",
            f"https://gist.github.com/{number}{tail}",
            f"https://gist.github.com/someone/{number}{tail}#file-model-py",
            f"https://api.github.com/gists/{number}{tail}",
            f"https://gist.githubusercontent.com/someone/{number}/raw{tail}/model.py",
        ):
            assert parse_gist(spelling) == Gist(number, revision), spelling

    @settings(deadline=None)
    @given(st.text(max_size=60))
    def test_any_other_text_names_no_gist(self, text) -> None:
        try:
            gist = parse_gist(text)
        except ModelError:
            return
        assert gist is None or (20 <= len(gist.id) <= 40 and set(gist.id) <= set(HEX))

    @pytest.mark.parametrize(
        "source",
        [
            "../../etc/passwd",
            "0123",
            "g" * 32,
            f"{ID}/../..",
            "data/01_raw/exports/gpt",
            "",
            "a" * 41,
        ],
    )
    def test_an_invalid_id_names_no_gist(self, source) -> None:
        assert parse_gist(source) is None

    @pytest.mark.parametrize(
        "source",
        [
            "http://169.254.169.254/latest/meta-data",
            f"https://gist.github.com.evil.org/u/{ID}",
            f"file:///gists/{ID}",
            f"https://evil.org/gist.github.com/{ID}",
            "http://[::1",
            f"ftp://gist.github.com/{ID}",
        ],
    )
    def test_another_url_is_refused_before_any_request(self, source) -> None:
        with pytest.raises(ModelError, match="not the URL of a gist"):
            parse_gist(source)

    @pytest.mark.parametrize("revision", ["main", "abc", "g" * 40, "a" * 41])
    def test_an_invalid_revision_is_refused(self, revision) -> None:
        with pytest.raises(ModelError, match=r"model\.revision is"):
            parse_gist(ID, revision)
