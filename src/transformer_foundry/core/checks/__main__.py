"""Command line of the checks: ``python -m transformer_foundry.core.checks EXPORT``.

Exit status: 0 no problems, 1 problems found, 2 the export could not be read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import FoundryError, format_error
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.models.options import TRIAL_RUN_SECONDS

if TYPE_CHECKING:
    from transformer_foundry.core.checks import Report

PASSED, PROBLEMS, UNREADABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    # Loading torch and running the model take seconds.
    print(f"Checking {one_line(redact(options.export))} ...", flush=True)
    try:
        report = _check(options)
    except FoundryError as err:
        if os.environ.get("FOUNDRY_DEBUG") == "1":
            raise
        sys.stderr.write(f"{format_error(err)}\n")
        return UNREADABLE
    sys.stdout.write(report.to_text() + "\n")
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    if options.figure is not None:
        from transformer_foundry.core.checks import draw_report

        options.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_report(report).savefig(options.figure, dpi=120)
    return PASSED if report.status == "pass" else PROBLEMS


def _check(options: argparse.Namespace) -> Report:
    from transformer_foundry.core.checks import run_checks
    from transformer_foundry.core.models import approve, read_export

    export = read_export(options.export, token=os.environ.get("GITHUB_TOKEN"))
    trusted = approve(
        export, trust_code=options.trust_code, sha256=options.sha256, first_run_seconds=options.first_run_seconds
    )
    return run_checks(trusted, kind=options.kind, tier=options.tier)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transformer_foundry.core.checks",
        description="Report what is wrong with an exported transformer.",
    )
    parser.add_argument("export", help="folder with model.py and config.json, zip file, gist id or gist URL")
    parser.add_argument("--kind", help="decoder-only, encoder-only or encoder-decoder; inferred by default")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write the report to this file")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="save the figure to this file")
    parser.add_argument("--tier", type=int, choices=(1, 2), default=1, help="2 also runs the thorough checks")
    parser.add_argument(
        "--trust-code", action="store_true", help="run code from a gist or zip file without approval of its digest"
    )
    parser.add_argument(
        "--sha256", metavar="DIGEST", help="run the code only if model.py and config.json have this digest"
    )
    parser.add_argument(
        "--first-run-seconds",
        type=float,
        default=TRIAL_RUN_SECONDS,
        metavar="S",
        help="time limit of building the model and calling it once, in seconds",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
