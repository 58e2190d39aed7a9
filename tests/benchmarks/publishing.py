"""Publishing round trip over a loopback Hub: one commit each, no difference after reloading, whatever fails on the way.

    python -m tests.benchmarks.publishing [FOLDER ...] [--only NAME ...] [--skip NAME ...] [--library] [--processes]

Each FOLDER is an export (``model.py``, ``config.json``), or holds some; ``--library`` adds the tiny architectures of
``tests/core/checks/test_library_models.py``. Every model is packaged with random weights and published with the real
clients, while the Hub answers 503, 412, 429 and cuts the connection before and after the commit; then a process that
has seen no model loads the published revision, by ``load_example.py`` and by transformers, and compares. Such a process
is a fork of one that has imported the libraries (``fresh_forks``); ``--processes`` starts new ones, as a user's command
does, at 12 instead of 5 CPU seconds a model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.fresh_forks import fresh_forks, use_forks
from tests.core.checks.test_library_models import MODELS
from tests.core.publishing.packaging import EVALUATION, PROFILE, REPORT, RUN, word_tokenizer
from tests.loopback.hub_client import HubClient
from tests.loopback.mini_hub import MiniHub
from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.core.publishing import DeploymentOptions, Package, build_package

SPECIAL = SpecialIds(pad=0, bos=1, eos=2, unk=3, mask=4, decoder_start=0)
LIBRARY_CODE = """
import json

import transformers

SETTINGS = json.loads({settings!r})


def build_model():
    return transformers.{head}(transformers.{config}(**SETTINGS))
"""


def library_folders(root: Path) -> Iterator[Path]:
    """Write each architecture as an export of its own."""
    for case in MODELS:
        config, head, settings = case.values
        folder = root / str(case.id)
        folder.mkdir()
        (folder / "model.py").write_text(LIBRARY_CODE.format(settings=json.dumps(settings), head=head, config=config))
        (folder / "config.json").write_text(json.dumps({"model_name": case.id} | settings))
        yield folder


def exports(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path.parent for path in sorted(folder.rglob("model.py")))


def package_of(folder: Path) -> Package:
    export = read_export(folder)
    return build_package(
        load_model(export),
        export,
        word_tokenizer(SPECIAL),
        training_state=None,
        evaluation=EVALUATION,
        data_profile=PROFILE,
        validation_report=REPORT,
        run_manifest=RUN,
        options=DeploymentOptions(formats=["pytorch", "transformers"], page=False),
    )


def round_trip(hub: MiniHub, client: HubClient, folder: Path, number: int) -> tuple[bool, str]:
    """Package and publish one model; return whether all is as it should be, and what to print."""
    package = package_of(folder)
    wrapped = package.manifest["formats"][-1]
    if package.problems:
        return False, f"not packaged: {'; '.join(package.problems)[:160]}"
    repo_id = f"alice/model-{number}"
    hub.fail_next(429, path="/api/models/*", retry_after_s=0)
    hub.fail_next(503, method="POST", path="*/commit/main")
    hub.fail_next(412, method="POST", path="*/commit/main")
    hub.cut_next(method="POST", path="*/commit/main")
    hub.cut_next(method="POST", path="*/commit/main", after=True)
    published = client.publish(package.folder, repo_id)
    shutil.rmtree(package.folder)
    left, hub.faults = len(hub.faults), []
    if "problem" in published:
        return False, f"not published: {published['problem'][:200]}"
    # The first commit is that of making the repository.
    commits = len(hub.repo(repo_id).commits) - 1
    is_right = (commits, published["difference"], published["tag"], left) == (1, 0.0, "v1", 0)
    text = f"commits {commits}  tag {published['tag']}  difference {published['difference']:g}"
    return is_right, f"{text}  in package {wrapped['max_abs_error']:g}  {wrapped['auto_class']}"


def main() -> int:
    """Print a line for each model and the totals; return how many are not as they should be."""
    options = _arguments()
    counts: dict[str, int] = {"right": 0, "refused": 0, "wrong": 0}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="publishing-")))
        forks = None if options.processes else stack.enter_context(fresh_forks())
        hub = stack.enter_context(MiniHub({"hf_alice": "alice"}))
        client = stack.enter_context(HubClient(hub, scratch / "home"))
        if forks is not None:
            use_forks(forks)
            client.call("tests.benchmarks.fresh_forks:use_forks", forks)
        folders = [*exports(options.folders), *(library_folders(scratch) if options.library else ())]
        for number, folder in enumerate(folders):
            if folder.name in options.skip or (options.only and folder.name not in options.only):
                continue
            verdict, text = _try(hub, client, folder, number)
            counts[verdict] += 1
            print(f"{verdict:8}{folder.name:28}{text}", flush=True)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return counts["wrong"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("data/01_raw/exports")])
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--skip", nargs="*", default=[])
    parser.add_argument("--library", action="store_true")
    parser.add_argument("--processes", action="store_true")
    return parser.parse_args()


def _try(hub: MiniHub, client: HubClient, folder: Path, number: int) -> tuple[str, str]:
    try:
        is_right, text = round_trip(hub, client, folder, number)
    except FoundryError as err:
        return "refused", err.problem[:200]
    return "right" if is_right else "wrong", text


if __name__ == "__main__":
    sys.exit(main())
