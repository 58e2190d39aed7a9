"""``python -m transformer_foundry.core.checks EXPORT``: check an export from the command line.

Exit status: 0 sound, 1 problems found, 2 the export could not be read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from transformer_foundry.core.base.errors import FoundryError

SOUND, PROBLEMS, UNREADABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    # Loading torch and running the model take seconds.
    print(f"Checking {options.export} ...", flush=True)
    try:
        report = _check(options)
    except FoundryError as err:
        if os.environ.get("FOUNDRY_DEBUG") == "1":
            raise
        sys.stderr.write(f"{err}\n")
        return UNREADABLE
    sys.stdout.write(report.to_text() + "\n")
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    if options.figure is not None:
        from transformer_foundry.core.checks import draw_report

        options.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_report(report).savefig(options.figure, dpi=120)
    return SOUND if report.status == "pass" else PROBLEMS


def _check(options: argparse.Namespace):  # type: ignore[no-untyped-def]  # The report's module imports nothing heavy.
    from transformer_foundry.core.checks import run_checks
    from transformer_foundry.core.models import approve, read_export

    export = read_export(options.export, token=os.environ.get("GITHUB_TOKEN"))
    trusted = approve(
        export, trust_code=options.trust_code, sha256=options.sha256, first_run_seconds=options.first_run_seconds
    )
    return run_checks(trusted, kind=options.kind, tier=options.tier)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transformer_foundry.core.checks", description="Say what is wrong with an exported transformer."
    )
    parser.add_argument("export", help="folder with model.py and config.json, zip file, gist id or gist URL")
    parser.add_argument("--kind", help="decoder-only, encoder-only or encoder-decoder; found when left out")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write the report there")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the figure there")
    parser.add_argument("--tier", type=int, choices=(1, 2), default=1, help="2 runs the thorough checks too")
    parser.add_argument("--trust-code", action="store_true", help="run code from a gist or zip file, whatever it holds")
    parser.add_argument("--sha256", metavar="DIGEST", help="run it only if model.py and config.json have this digest")
    parser.add_argument(
        "--first-run-seconds", type=float, default=120.0, metavar="S", help="limit of building and calling it once"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
