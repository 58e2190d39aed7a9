"""The table of bad inputs: what is wrong, the command that meets it, and the words that its error must say."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.bad_input import CHECKS, KEDRO, kedro_arguments
from tests.faults.full_disk import room_for
from tests.integration.foundry import SAMPLES
from tests.loopback.gist_server import Failure, GistServer
from tests.loopback.mini_hub import MiniHub
from tests.loopback.mini_wandb import MiniWandb
from transformer_foundry.core.files import folder_manifest

GIST = "0123456789abcdef0123456789abcdef"
REPO = "alice/gpt"


@dataclass
class World:
    """What a case may use.

    Attributes:
        folder: Empty folder of the case.
        base: Data folder of a run of all pipelines, to copy from.
        gists: Server of gists.
        hub: Server of the Hub, the same for all cases.
    """

    folder: Path
    base: Path
    gists: GistServer
    hub: MiniHub


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes:
        name: What is wrong.
        pipelines: Pipelines of ``kedro run``; "checks" runs the command of the checks.
        settings: Makes the input and returns the parameters, or the arguments of the checks.
        said: Words that the error must hold.
        needs_run: Whether the case begins with the data folder of a finished run.
        goes_on: Whether the command warns and reaches its end.
        room_bytes: Size beyond which no file can grow, as on a full disk.
        wandb: What the server of W&B answers; None: it is not asked.
    """

    name: str
    pipelines: str
    settings: Callable[[World], dict[str, object]]
    said: tuple[str, ...]
    needs_run: bool = False
    goes_on: bool = False
    room_bytes: int | None = None
    wandb: int | str | None = None

    def left_behind(self, folder: Path) -> list[str]:
        """Return the unfinished files in the data folder."""
        data = folder / "data"
        names = [path.name for path in data.rglob("*")] if data.is_dir() else []
        return [
            f"left behind: {name}"
            for name in names
            if name.endswith((".new", ".part", ".tmp")) or name.startswith(".tmp")
        ]


@contextlib.contextmanager
def prepare(case: Case, folder: Path, base: Path, hub: MiniHub) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Make the input of ``case`` and yield module, arguments and variables of the command that meets it."""
    data_dir = folder / "data"
    if case.needs_run:
        shutil.copytree(base, data_dir, symlinks=True)
    room = room_for(case.room_bytes) if case.room_bytes else contextlib.nullcontext()
    with GistServer() as gists, MiniWandb() as wandb:
        wandb.refuse_with(case.wandb)
        files = {name: (SAMPLES / "gpt" / name).read_text() for name in ("model.py", "config.json")}
        gists.gists[GIST] = [files]
        settings = case.settings(World(folder, data_dir, gists, hub))
        variables = {"GITHUB_API_URL": gists.url} | (wandb.environment() if case.wandb else {})
        with room:
            if case.pipelines == "checks":
                yield CHECKS, [str(settings["model.source"])], variables
            else:
                yield KEDRO, kedro_arguments(data_dir, case.pipelines, settings), variables
        wandb.refuse_with(None)
    hub.faults.clear()
    hub.delays.clear()


def given(**settings: object) -> Callable[[World], dict[str, object]]:
    """Parameters without an input: ``training__seed=1`` is ``training.seed``."""
    return lambda _: {name.replace("__", "."): value for name, value in settings.items()}


def export(
    model: str | bytes | None = None, config: str | bytes | dict[str, Any] | None = None, **more: object
) -> Callable[[World], dict[str, object]]:
    """An export with another model.py or config.json than the sample's; "" leaves the file out."""

    def make(world: World) -> dict[str, object]:
        return {"model.source": write_export(world.folder / "export", model, config)} | more

    return make


def write_export(folder: Path, model: str | bytes | None = None, config: Any = None) -> Path:
    folder.mkdir()
    for name, content in (("model.py", model), ("config.json", config)):
        data = (SAMPLES / "gpt" / name).read_bytes() if content is None else content
        data = json.dumps(json.loads((SAMPLES / "gpt" / name).read_text()) | data) if isinstance(data, dict) else data
        if data:
            (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def archive(fill: Callable[[zipfile.ZipFile], None]) -> Callable[[World], dict[str, object]]:
    def make(world: World) -> dict[str, object]:
        path = world.folder / "export.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            fill(file)
        return {"model.source": path, "model.trust_code": "true"}

    return make


def sound_files(file: zipfile.ZipFile) -> None:
    for name in ("model.py", "config.json"):
        file.write(SAMPLES / "gpt" / name, name)


def bomb(file: zipfile.ZipFile) -> None:
    file.writestr("config.json", "{}")
    file.writestr("model.py", b"\n" * (200 * 2**20))


def climbing(file: zipfile.ZipFile) -> None:
    sound_files(file)
    file.writestr("../../etc/cron.d/job", "x")


def linking(file: zipfile.ZipFile) -> None:
    link = zipfile.ZipInfo("model.py")
    link.external_attr = 0o120777 << 16
    file.writestr(link, "/etc/passwd")
    file.writestr("config.json", "{}")


def gist(change: Callable[[GistServer], object], **more: object) -> Callable[[World], dict[str, object]]:
    def make(world: World) -> dict[str, object]:
        change(world.gists)
        return {"model.source": GIST, "model.trust_code": "true"} | more

    return make


def answers(*failures: Failure) -> Callable[[GistServer], object]:
    return lambda server: server.failures.extend(failures)


def data(name: str, content: bytes, **more: object) -> Callable[[World], dict[str, object]]:
    def make(world: World) -> dict[str, object]:
        path = world.folder / name
        path.write_bytes(content)
        return {"data.source": path} | {key.replace("__", "."): value for key, value in more.items()}

    return make


def long_line(world: World) -> dict[str, object]:
    path = world.folder / "long.csv"
    with path.open("wb") as file:
        file.write(b"text\n")
        for _ in range(2**10):
            file.write(b"word" * 2**18)
    return {"data.source": path}


def empty_folder(world: World) -> dict[str, object]:
    path = world.folder / "empty"
    path.mkdir()
    return {"data.source": path}


def newest(world: World) -> Path:
    return max((world.base / "06_models/gpt/checkpoints").glob("step-*"))


def cut(name: str) -> Callable[[World], dict[str, object]]:
    def make(world: World) -> dict[str, object]:
        for generation in (world.base / "06_models/gpt/checkpoints").glob("step-*"):
            for path in generation.glob(name):
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return {"training.max_steps": 14}

    return make


def newer_format(world: World) -> dict[str, object]:
    for path in world.base.glob("06_models/gpt/checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text()) | {"format_version": 99}
        del manifest["seal"]
        path.write_text(json.dumps(manifest | {"seal": folder_manifest._seal(manifest)}))
    return {}


def written(file: str, content: bytes, **more: object) -> Callable[[World], dict[str, object]]:
    def make(world: World) -> dict[str, object]:
        (world.base / file).parent.mkdir(parents=True, exist_ok=True)
        (world.base / file).write_bytes(content)
        return {name.replace("__", "."): value for name, value in more.items()}

    return make


def foreign_checkpoint(world: World) -> dict[str, object]:
    text = (SAMPLES / "gpt" / "model.py").read_text()
    folder = write_export(world.folder / "other", text + "\n# another model\n")
    return {"model.source": folder, "run.name": "gpt", "run.on_change": "refuse"}


def hub(fault: Callable[[MiniHub], object]) -> Callable[[World], dict[str, object]]:
    def make(world: World) -> dict[str, object]:
        fault(world.hub)
        return {"deployment.hub_repo": REPO, "deployment.formats": "[pytorch]"}

    return make


def data_dir_is(make: Callable[[Path], object], name: str = "place/inside") -> Callable[[World], dict[str, object]]:
    def settings(world: World) -> dict[str, object]:
        made = make(world.folder / "place")
        return {"data_dir": made if isinstance(made, str) else world.folder / name}

    return settings


def file_at(path: Path) -> Path:
    path.write_text("x")
    return path


LOOP = "while True: pass\nclass Model: pass\n"
HOARD = "import torch\nhoard = torch.ones(25 * 10**10)\nclass Model(torch.nn.Module): pass\n"
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
NO_CLASS = "import torch\nx = torch.nn.Linear(2, 2)\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<body>Sign in, please</body></html>\n"
CUT_PARQUET = b"PAR1" + struct.pack("<200I", *range(200))
QUICK_LIMIT = {"model.first_run_seconds": 2}
V, D, T, P = "validation", "data_engineering", "training", "deployment"

CASES = [
    # Where the model comes from.
    Case("source: an id that climbs", V, given(model__source="../../etc"), ("../../etc", "model.py")),
    Case("source: metadata service", V, given(model__source="http://169.254.169.254/latest"), ("169.254", "gist")),
    Case("source: file URL", V, given(model__source="file:///etc/passwd"), ("file:///etc/passwd", "gist")),
    Case("source: another host", V, given(model__source=f"https://gist.evil.example/{GIST}"), ("evil", "gist")),
    Case("source: a host before @", V, given(model__source=f"https://gist.github.com@evil.example/{GIST}"), ("gist",)),
    Case("source: empty", V, given(model__source=""), ("model.source",)),
    Case("source: a number", V, given(model__source=12), ("model.source", "12", "text")),
    Case("source: a folder that is not there", V, given(model__source="no/where"), ("no/where", "model.source")),
    Case("source: revision that is none", V, given(model__source=GIST, model__revision="main"), ("revision", "main")),
    Case("source: no model.py", V, export(model=""), ("model.py", "export")),
    Case("source: no config.json", "checks", export(config=""), ("config.json",)),
    Case("source: another digest", V, given(model__sha256="a" * 64), ("model.sha256", "aaaa")),
    Case("source: a kind that is none", V, given(model__kind="decoder"), ("model.kind", "decoder-only")),
    Case("zip: no zip", V,
         lambda w: data("export.zip", b"PK\x03\x04 no")(w) | {"model.source": w.folder / "export.zip"},
         ("export.zip", "zip")),
    Case("zip: bomb", V, archive(bomb), ("model.py", "MiB")),
    Case("zip: climbing name", V, archive(climbing), ("../../etc/cron.d/job", "outside")),
    Case("zip: link", V, archive(linking), ("link",)),
    Case("zip: without the two files", V, archive(lambda file: file.writestr("a.txt", "x")), ("model.py", "a.txt")),
    Case("zip: without approval", V, lambda w: archive(sound_files)(w) | {"model.trust_code": "false"},
         ("sha256", "external", "model.sha256")),
    # What GitHub answers.
    Case("gist: 404", V, gist(lambda server: server.gists.clear()), (GIST, "model.source")),
    Case("gist: 401", V, gist(answers(Failure(401))), ("401", "GITHUB_TOKEN")),
    Case("gist: 403, limit", V, gist(answers(Failure(403, {"X-RateLimit-Remaining": "0"}))), ("limit", "minutes")),
    Case("gist: 409", V, gist(answers(Failure(409))), ("409", GIST)),
    Case("gist: 429", V, gist(answers(Failure(429))), ("limit", "429")),
    Case("gist: 500", V, gist(answers(*[Failure(500)] * 4)), ("500", "attempts")),
    Case("gist: hangs", V, gist(answers(*[Failure(hangs=True)] * 4)), (GIST, "network")),
    Case("gist: cut off", V, gist(answers(*[Failure(breaks_off=True)] * 4)), ("ended after",)),
    Case("gist: a page", V, gist(answers(Failure(200, body=PAGE))), ("JSON", GIST)),
    Case("gist: a list", V, gist(answers(Failure(200, body=b"[]"))), ("list", GIST)),
    Case("gist: nested too deep", V, gist(answers(Failure(200, body=DEEP.encode()))), (GIST,)),
    Case("gist: redirect to another host", V, gist(answers(Failure(302, {"Location": "http://169.254.169.254/"}))),
         ("169.254.169.254", "another host")),
    Case("gist: raw file on another host", V, gist(lambda server: setattr(server, "raw_host", "http://evil.example")),
         ("evil.example",)),
    Case("gist: without model.py", V, gist(lambda server: server.gists[GIST][0].pop("model.py")), ("model.py", GIST)),
    Case("gist: without approval", V, gist(lambda _: None, **{"model.trust_code": "false"}),
         ("sha256", "external")),
    # config.json
    Case("config: nested 100,000 deep", V, export(config=DEEP), ("config.json",)),
    Case("config: NaN", V, export(config='{"vocab_size": NaN}'), ("config.json", "NaN")),
    Case("config: a list", V, export(config="[1, 2]"), ("config.json", "list")),
    Case("config: a text", "checks", export(config='"12"'), ("config.json", "12")),
    Case("config: a space", V, export(config=" "), ("config.json", "line 1")),
    Case("config: cut", V, export(config='{"vocab_size": 51'), ("config.json", "line 1")),
    Case("config: latin-1", V, export(config='{"model_name": "Modèle"}'.encode("latin-1")), ("config.json", "UTF-8")),
    Case("config: UTF-16", V, export(config='{"vocab_size": 512}'.encode("utf-16")), ("config.json", "UTF-8")),
    Case("config: 11 MB", V, export(config='{"a": "' + "x" * 11 * 2**20 + '"}'), ("config.json", "MiB")),
    Case("config: vocab_size 1e12", V, export(config={"vocab_size": 10**12}), ("GiB", "vocab_size")),
    Case('config: vocab_size "12"', V, export(config={"vocab_size": "12"}), ("vocab_size",)),
    Case("config: vocab_size -1", V, export(config={"vocab_size": -1}), ("vocab_size",)),
    # model.py
    Case("model: syntax error", V, export(model="import torch\nclass Model(torch.nn.Module)\n"), ("model.py", "2")),
    Case("model: endless loop at import", V, export(LOOP, **QUICK_LIMIT), ("2 seconds", "model.py")),
    Case("model: allocates 1000 GB at import", V, export(HOARD), ("model.py line 2", "memory")),
    Case("model: ends its process", V, export("import os\nos._exit(0)\nclass M: pass\n"), ("model.py", "process")),
    Case("model: crashes", "checks", export("import os\nos.abort()\nclass M: pass\n"), ("model.py", "signal 6")),
    Case("model: no class", V, export(NO_CLASS), ("model.py", "class")),
    Case("model: latin-1", V, export("# Modèle\n".encode("latin-1")), ("model.py", "line 1", "UTF-8")),
    Case("model: null bytes", V, export(b"import torch\n\0\n"), ("model.py",)),
    Case("model: raises at import", V, export("raise ValueError('no')\nclass M: pass\n"), ("model.py", "ValueError")),
    Case("model: sys.exit at import", V, export("import sys\nsys.exit(0)\nclass M: pass\n"), ("SystemExit",)),
    Case("model: library that is missing", V, export("import nosuchlib\nclass M: pass\n"), ("nosuchlib", "model.py")),
    Case("model: brackets 10,000 deep", V, export("x = " + "(" * 10_000 + ")" * 10_000), ("model.py",)),
    # Parameters
    Case("parameters: learning_rate abc", T, given(training__learning_rate="abc"), ("learning_rate", "abc", "number")),
    Case("parameters: learning_rate -1", T, given(training__learning_rate=-1), ("learning_rate", "-1")),
    Case("parameters: learning_rate nan", T, given(training__learning_rate=".nan"), ("learning_rate", "nan")),
    Case("parameters: optimizer adamm", T, given(training__optimizer="adamm"), ("adamm", "adamw")),
    Case("parameters: unknown key", T, given(training__learning_rat=1), ("learning_rat", "learning_rate")),
    Case("parameters: unknown section", T, given(trainin__learning_rate=1), ("trainin", "training")),
    Case("parameters: a section that is a number", T, given(training=3), ("training", "3")),
    Case("parameters: warm-up beyond the end", T, given(training__warmup_ratio=1.5), ("warmup_ratio", "1.5")),
    Case("parameters: zero steps", T, given(training__max_steps=0), ("max_steps", "0")),
    Case("parameters: half a step", T, given(training__max_steps=1.5), ("max_steps", "1.5")),
    Case("parameters: a seed that is a text", T, given(training__seed="one"), ("seed", "one")),
    Case("parameters: unknown pipeline", "trainin", given(), ("trainin", "training")),
    Case("parameters: a run name that climbs", V, given(run__name="../out"), ("run.name", "../out")),
    Case("parameters: data_dir is a number", V, given(data_dir=12), ("data_dir", "12")),
    Case("parameters: a repository without a user", P, given(deployment__hub_repo="gpt"), ("hub_repo", "gpt")),
    Case("parameters: storage that is no URL", "tuning", given(tuning__storage="nowhere://x"), ("storage", "nowhere"),
         True),
    Case("parameters: fork of a run that is not there", T,
         given(run__fork_from="nobody", run__name="new", run__preparation="gpt"), ("fork_from", "nobody"), True),
    Case("parameters: reproduce what is no manifest", T, given(run__reproduce="README.md"), ("reproduce", "README.md")),
    Case("parameters: a format that is none", P, given(deployment__formats="[onyx]"), ("formats", "onnx")),
    Case("parameters: training before validation", "--namespaces training", given(),
         ("token_splits", "--pipelines data_engineering")),
    # Data
    Case("data: not there", D, given(data__source="no/such.csv"), ("no/such.csv",)),
    Case("data: a page as csv", D, data("page.csv", PAGE), ("page.csv", "HTML")),
    Case("data: empty", D, data("empty.csv", b""), ("empty.csv",)),
    Case("data: latin-1", D, data("old.csv", "text\nvoilà, déjà\n".encode("latin-1") * 9), ("old.csv", "UTF-8")),
    Case("data: a line of 1 GB", D, long_line, ("long.csv", "line 2")),
    Case("data: bytes as text", D, data("noise.txt", bytes(range(256)) * 40), ("noise.txt",)),
    Case("data: a broken line", D, data("a.jsonl", b'{"text": "one"}\n{"text": \n'), ("a.jsonl", "2")),
    Case("data: cut parquet", D, data("a.parquet", CUT_PARQUET), ("a.parquet",)),
    Case("data: cut gzip", D, data("a.txt.gz", gzip.compress(b"some words\n" * 5000)[:60]), ("a.txt.gz",)),
    Case("data: a column that is not there", D, data("a.csv", b"body\nhello there\n" * 30, data__text_column="text"),
         ("text", "body")),
    Case("data: an empty folder", D, empty_folder, ("data.source",)),
    # Checkpoints and what earlier commands have made
    Case("checkpoint: every one is cut", T, cut("weights.safetensors"), ("weights.safetensors",), True),
    Case("checkpoint: of another model", f"{V},{D},{T}", foreign_checkpoint,
         ("run gpt is another one", "model.py"), True),
    Case("checkpoint: format version 99", T, newer_format, ("99",), True),
    Case("report: no JSON", T, written("08_reporting/gpt/validation_report.json", b"{"),
         ("validation_report.json is damaged", "the model is sound"), needs_run=True, goes_on=True),
    Case("tokenizer: damaged", T, written("05_model_input/gpt/tokenizer/tokenizer.json", b"{}"),
         ("is made again", "tokenizer.json is damaged"), needs_run=True, goes_on=True),
    Case("tokenizer: damaged, training alone", "--namespaces training",
         written("05_model_input/gpt/tokenizer/tokenizer.json", b"{}"),
         ("tokenizer.json is damaged", "data_engineering"), True),
    Case("best parameters: a list", T,
         written("06_models/gpt/tuning/best_parameters.json", b"[1]", training__use_best="true", run__name="gpt"),
         ("best_parameters",), True),
    Case("deployment: nothing is trained", "--namespaces deployment", given(), ("training_run",)),
    # What the Hub answers
    Case("Hub: 401", P, hub(lambda it: it.fail_next(401, 50)), ("401", "HF_TOKEN"), True),
    Case("Hub: 404", P, hub(lambda it: it.fail_next(404, 50, method="POST")), ("404", REPO), True),
    Case("Hub: 409", P, hub(lambda it: it.fail_next(409, 50, path="*commit*")), ("409", REPO), True),
    Case("Hub: 429", P, hub(lambda it: it.fail_next(429, 50, path="*commit*", retry_after_s=0)), ("429", REPO), True),
    Case("Hub: 500", P, hub(lambda it: it.fail_next(500, 90, path="*commit*")), ("500", REPO), True),
    Case("Hub: hangs", P, hub(lambda it: it.stall_next(9, 90)), ("Hub", "network"), True),
    Case("Hub: cut off", P, hub(lambda it: it.cut_next(90)), ("Hub", "network"), True),
    # Answers of W&B: training continues, offline
    *(
        Case(f"W&B: {answer}", T, given(tracking__mode="online", training__max_steps=14), ("W&B cannot be reached",),
             needs_run=True, goes_on=True, wandb=answer)
        for answer in (401, 404, 409, 429, 500, "hang", "cut")
    ),
    # Disks
    Case("disk: full while tokens are written", D, given(run__name="other"), ("space",), room_bytes=20_000),
    Case("disk: full while training", T, given(training__max_steps=14), ("space",), True, room_bytes=100_000),
    Case("disk: full while exporting", P, given(), ("space",), True, room_bytes=100_000),
    Case("disk: Drive is a file", T,
         lambda w: {"drive.folder": file_at(w.folder / "drive"), "training.max_steps": 14}, ("drive",), True,
         goes_on=True),
    Case("disk: Drive is read-only", T,
         lambda w: {"drive.folder": "/proc/foundry", "training.max_steps": 14}, ("/proc/foundry",), True,
         goes_on=True),
    Case("disk: the data folder is a file", V, data_dir_is(lambda place: place.write_text("x")), ("place",)),
    Case("disk: read-only", V, data_dir_is(lambda _: "/proc/foundry"), ("/proc",)),
    Case("disk: gone", V, data_dir_is(lambda place: place.symlink_to("/nonexistent/drive")), ("place",)),
    Case("disk: full", V, data_dir_is(lambda place: place.symlink_to("/dev/full")), ("place",)),
]  # fmt: skip
