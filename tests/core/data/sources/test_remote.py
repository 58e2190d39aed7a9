"""Addresses that cannot be read are refused before anything is asked, and a silent server is given up."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from yarl import URL

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import open_corpus, read_corpus
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources import remote
from transformer_foundry.core.system.redirects import check_redirect


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("ftp://host/a.csv", "ftp:// is not read"),
        ("sftp://me:secret1@host/a.csv", "sftp:// is not read"),
        ("htps://host/a.csv", "Did you mean 'https'"),
        ("zip://a.csv::https://host/a.zip", "a chain of addresses"),
        ("simplecache::s3://bucket/a.csv", "a chain of addresses"),
        ("s3://bucket/a.csv", "s3fs, which reads s3://, is not installed"),
        ("az://bucket/a.csv", "adlfs, which reads az://, is not installed"),
        ("data://x", "data:// is not read"),
    ],
)
def test_an_address_that_is_not_read_is_refused_at_once(source: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        read_corpus(DataOptions(source=source), "causal_lm", None)
    assert "secret1" not in str(caught.value)


@pytest.fixture
def silent_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that accepts connections and sends the given bytes, then nothing."""
    with socket.socket() as server, contextlib.ExitStack() as open_connections:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    open_connections.enter_context(connection)
                    connection.recv(4096)
                    connection.sendall(request.param)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.csv"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("silent_server", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\ntext"], indirect=True)
def test_a_silent_server_is_given_up(silent_server: str, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CONNECT_S", 0.3)
    monkeypatch.setattr(remote, "READ_S", 0.3)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=r"does not answer in time|be read"):
        read_corpus(DataOptions(source=silent_server, streaming=streaming), "causal_lm", None)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_stream_that_ends_in_the_middle_is_given_up_after_three_attempts(
    ending: str,
    stalling_server: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address, requests = f"{stalling_server[0]}.{ending}", stalling_server[1]
    monkeypatch.setattr(remote, "READ_S", 0.2)
    monkeypatch.setattr(remote, "_PAUSE_S", 0.05)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    with caplog.at_level("INFO"), pytest.raises(DataError, match=r"does not answer in time|be read"):
        read_corpus(DataOptions(source=address, streaming=True), "causal_lm", None)
    assert len(requests) <= 12
    assert f"Reading from {address}; " in caplog.text


def test_the_first_lines_of_a_url_are_downloaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(f'{{"text": "Text number {number}, of some words."}}\n\n' for number in range(300)).encode()
    sent: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_HEAD()
            sent.append(self.wfile.write(lines))
            with contextlib.suppress(OSError):  # the client has read enough
                while "endless" in self.path:
                    self.wfile.write(lines)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(lines) if "endless" not in self.path else 10**15))
            self.send_header("Accept-Ranges", "none")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        whole = DataOptions(source=f"{address}/a.jsonl", streaming=True)
        few = DataOptions(source=f"{address}/endless.jsonl", streaming=True, max_documents=30)
        corpus = read_corpus(whole, "causal_lm", None)
        assert len(list(corpus.all_documents())) == 300
        again = open_corpus(corpus.describe(), whole, "causal_lm")  # as the next node does
        assert len(list(again.all_documents())) == 300
        assert sum(sent) == len(lines)
        assert len(list(read_corpus(few, "causal_lm", None).all_documents())) == 30
        server.shutdown()


@pytest.fixture
def stalling_server() -> Iterator[tuple[str, list[str]]]:
    """The address of a table of which only the beginning is sent, and the requests for it."""
    requests: list[str] = []
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.do_HEAD()
            self.wfile.write(b"text\nOne text.\n" if self.path.endswith("csv") else b'{"text": "One text."}\n')
            self.wfile.flush()
            ended.wait()

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/a", requests
        ended.set()
        server.shutdown()


@pytest.fixture
def redirecting_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server at 127.0.0.1 that redirects to its file under the given name of the machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"" if self.path == "/a.csv" else b"text\nOne text.\nAnother text.\n"
            self.send_response(200 if body else 302)
            self.send_header("Location", f"http://{request.param}:{self.server.server_address[1]}/b.csv")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/a.csv"
        server.shutdown()


@pytest.mark.parametrize(
    ("redirecting_server", "streaming"),
    [("127.0.0.1", False), ("localhost", False), ("localhost", True)],
    indirect=["redirecting_server"],
)
def test_a_redirect_to_another_host_is_refused(
    redirecting_server: str, streaming: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    options = DataOptions(source=redirecting_server, streaming=streaming)
    if "127.0.0.1" in request.node.name:
        assert read_corpus(options, "causal_lm", None).all_documents()
        return
    with pytest.raises(DataError, match=r"redirects data\.source to another host: http://localhost"):
        read_corpus(options, "causal_lm", None)


@pytest.mark.parametrize(
    ("origin", "target", "refused"),
    [
        ("https://github.com/a/b/raw/c.csv", "https://raw.githubusercontent.com/a/b/c.csv", ""),
        ("https://zenodo.org/records/1", "https://zenodo.org/api/files/1?token=x", ""),
        ("http://www.example.org/a", "https://example.org/a", ""),
        ("https://huggingface.co/a", "https://cdn-lfs.hf.co/a", ""),
        ("https://example.org/a", "https://raw.githubusercontent.com/a/b/c.csv", "another host"),
        ("https://example.org/a", "https://example.org.evil.com/a", "another host"),
        ("https://example.org/a", "http://example.org/a", "without encryption"),
        ("http://example.org/a", "http://169.254.169.254/latest/meta-data", "another host"),
        ("http://example.org/a", "http://example.org:8080/a", "another host"),
    ],
)
def test_a_redirect_stays_with_the_host_or_where_a_known_service_delivers(
    origin: str, target: str, refused: str
) -> None:
    if not refused:
        check_redirect(URL(origin), URL(target))
        return
    with pytest.raises(DataError, match=refused):
        check_redirect(URL(origin), URL(target))
