"""No secret of the environment gets into what a run prints or writes, whether it ends well or not."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.faults.secret_scan import make_canaries, scan
from tests.integration.foundry import PROJECT, SAMPLES, arguments, environment

CANARIES = make_canaries()


def run(folder: Path, pipelines: str, settings: dict[str, object], **variables: str) -> tuple[int, str, list[str]]:
    """Return exit code, what was printed, and where canaries were found, the home folder included."""
    home = folder / "home"
    home.mkdir(parents=True)
    around = environment() | {"HOME": str(home), "WANDB_DIR": str(folder), "TMPDIR": str(home)} | variables
    command = arguments(folder / "data", pipelines, settings)
    ended, hits = scan(command, folder, CANARIES, cwd=PROJECT, environment=around)
    return ended.returncode, (ended.stdout + ended.stderr).decode(), hits


def test_the_scan_finds_what_is_there(tmp_path: Path) -> None:
    program = "import gzip, os; gzip.open('a.gz', 'w').write(os.environ['HF_TOKEN'].encode()); print(os.environ)"
    _, hits = scan([sys.executable, "-c", program], tmp_path, CANARIES, cwd=tmp_path, environment=environment())
    assert f"HF_TOKEN in {tmp_path}/a.gz!gzip" in hits
    assert "GITHUB_TOKEN in what it printed" in hits


class Served(SimpleHTTPRequestHandler):
    """Serves files whose addresses have parameters."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.partition(";")[0])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a csv is served, with a password that no variable holds."""
    folder = tmp_path_factory.mktemp("served")
    rows = [f"the quick brown fox number {number} jumps over {number % 7} dogs" for number in range(900)]
    (folder / "a.csv").write_text("\n".join(["text", *rows]))
    handler = functools.partial(Served, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        word = CANARIES["GOOGLE_API_KEY"][4:]
        place = f"127.0.0.1:{server.server_port}/a.csv;token={word}?pass={word}&code={word}&jwt={word}"
        yield f"http://{word}:{word}@{place}#token={word}"
        server.shutdown()


@pytest.mark.slow
def test_a_run_of_all_pipelines_leaves_no_secret(tmp_path: Path, tmp_path_factory, address: str) -> None:
    storage = f"postgresql+psycopg2://me:{CANARIES['PGPASSWORD']}@127.0.0.1:9/study"
    settings = {"tracking.mode": "offline", "tuning.storage": storage, "deployment.formats": "[pytorch]"}
    # The cache of the datasets library, which records URLs unchanged, is elsewhere.
    around = {"HF_HOME": str(tmp_path_factory.mktemp("cache")), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    code, printed, hits = run(tmp_path, "", settings | {"data.source": address}, **around)
    assert code == 0, printed
    assert list((tmp_path / "data").rglob("*.wandb"))
    assert hits == []


@pytest.mark.slow
@pytest.mark.parametrize("debug", ["", "1"])
def test_a_failing_run_prints_no_secret(tmp_path: Path, debug: str) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "config.json").write_text("{}")
    leak = "import os\nraise RuntimeError(' '.join(map(str, os.environ.items())))\nclass Model: pass\n"
    (export / "model.py").write_text(leak)
    code, printed, hits = run(tmp_path, "", {"model.source": export}, FOUNDRY_DEBUG=debug)
    assert code != 0
    assert "RuntimeError" in printed
    assert hits == []


@pytest.mark.slow
def test_a_bad_value_that_is_a_secret_is_not_repeated(tmp_path: Path) -> None:
    settings = {"model.source": SAMPLES / "gpt", "model.revision": CANARIES["HF_TOKEN"], "training.seed": "x"}
    code, _, hits = run(tmp_path, "validation", settings)
    assert code == 2
    assert hits == []
