"""Text from outside is printable and on one line wherever it is shown."""

from __future__ import annotations

import csv
import io
import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.architecture import PACKAGE
from tests.core.publishing.package.test_model_card import MANIFEST
from tests.core.publishing.registry.test_foreign_registry import PUBLISHED, REGISTERED, write_log
from transformer_foundry.cli import cli
from transformer_foundry.cli.tables import show_table, text_of
from transformer_foundry.console.log_format import RedactedRecord
from transformer_foundry.console.status_line import StatusLine
from transformer_foundry.core.base.text import markdown_text, one_line, printable, spreadsheet_cell
from transformer_foundry.core.checks.probing.finding import Finding
from transformer_foundry.core.files.folder_manifest import manifest_text
from transformer_foundry.core.files.run_paths import runs_folder
from transformer_foundry.core.models import read_export
from transformer_foundry.core.publishing import DeploymentOptions
from transformer_foundry.core.publishing.package.model_card import make_card
from transformer_foundry.core.publishing.package.templates import verify_files
from transformer_foundry.datasets import PlotlyFigureDataset

HOSTILE = "=1+1\x1b[2J\x07\r\nerror: forged\u202etxt.exe\u2028\x9b<script>alert(1)</script>[a](http://evil)|`x`\ud800"


def is_printable(text: str, *, lines: bool = False) -> bool:
    allowed = "\n" if lines else ""
    return all(char in allowed or unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in text) and not (
        {"\u202e", "\u2066", "\u200f", "\u061c"} & set(text)
    )


@given(st.text())
def test_one_line_is_printable_and_tells_texts_apart(text: str) -> None:
    assert is_printable(one_line(text))
    assert is_printable(printable(text), lines=True)
    assert is_printable(verify_files.one_line(text))
    assert one_line(one_line(text)) == one_line(text)


@given(st.text())
def test_markdown_and_spreadsheets_show_text_as_text(text: str) -> None:
    shown = markdown_text(text)
    assert not {"<", ">", "`"} & set(shown)
    assert shown.count("|") == shown.count("\\|")
    cell = str(spreadsheet_cell(text))
    assert not cell.lstrip().startswith(("=", "@", "\uff1d", "\uff20")) and is_printable(cell)  # noqa: PT018


@pytest.mark.parametrize("sign", ["=", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_a_formula_is_no_formula_in_a_spreadsheet(sign: str) -> None:
    assert spreadsheet_cell(f"{sign}A1+B1") == f"'{sign}A1+B1"


@pytest.fixture
def export(tmp_path: Path) -> Any:
    (tmp_path / "model.py").write_text("class Model: pass\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_name": HOSTILE.replace("\ud800", "")}))
    return read_export(tmp_path)


def in_a_card(export: Any) -> str:
    manifest = MANIFEST | {"model": {**MANIFEST["model"], "name": export.name}}
    manifest["formats"] = [{"format": "onnx", "status": "failed", "stage": "export", "reason": HOSTILE}]
    card = make_card(manifest, {}, DeploymentOptions())
    assert "<script>" not in card.split("---", 2)[2]
    assert "[a](http://evil)" not in card.split("---", 2)[2]
    return card


def in_a_terminal(export: Any, capsys: pytest.CaptureFixture[str]) -> str:
    show_table([("name", "value"), (export.name, text_of({"a": HOSTILE})), (HOSTILE, "x")])
    StatusLine().print(HOSTILE.replace("\n", " "))
    print(logging.Formatter("%(message)s").format(RedactedRecord("n", 20, "f", 1, "%s", (HOSTILE,), None)))
    return capsys.readouterr().out


def test_names_are_printable_in_card_and_terminal(export: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_printable(export.name) and len(export.name) <= 203  # noqa: PT018
    for shown in (in_a_card(export), in_a_terminal(export, capsys)):
        assert is_printable(shown, lines=True)


def test_cells_are_printable_and_no_formulas_in_a_csv_file() -> None:
    frame = pd.DataFrame([{"text": spreadsheet_cell(HOSTILE), "loss": spreadsheet_cell(-1.5)}])
    (row,) = csv.DictReader(io.StringIO(frame.to_csv(index=False)))
    assert row["text"].startswith("'=")
    assert row["loss"] == "-1.5"
    assert is_printable(row["text"])


def test_labels_of_a_figure_are_text(tmp_path: Path) -> None:
    dataset = PlotlyFigureDataset(filepath=str(tmp_path / "figure.json"))
    figure = go.Figure(go.Bar(x=[HOSTILE.replace("\ud800", "")], y=[1], text=["a<br>b"]))
    dataset.save(figure)
    saved = dataset.load()
    assert saved is not None
    assert "<script" not in saved.data[0].x[0]
    assert is_printable(saved.data[0].x[0])
    assert saved.data[0].text[0] == "a<br>b"


def test_findings_are_printable() -> None:
    from transformer_foundry.core.checks.report.report import Report

    report = Report("decoder-only", [Finding("c", "error", HOSTILE, HOSTILE, HOSTILE)], 0.1)
    assert is_printable(report.to_text(), lines=True)


def test_commands_print_through_the_functions_that_escape_text() -> None:
    folder = PACKAGE / "cli"
    printing = {path.name for path in folder.rglob("*.py") if "click.echo(" in path.read_text(encoding="utf-8")}
    assert printing == {"tables.py", "readable.py"}  # lines and tables; expected errors, which are escaped


def write_run(folder: Path) -> None:
    """A run from elsewhere, with one checkpoint: the seals of its manifests have no key."""
    checkpoint = folder / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    values = {"format_version": 2, "step": 1, "best_step": 1, "reason": HOSTILE, "written_at": HOSTILE}
    (checkpoint / "manifest.json").write_text(manifest_text({}, values))
    (folder / "manifest.json").write_text(json.dumps({"parameters": {HOSTILE: HOSTILE}, "sessions": []}))


def test_values_of_a_foreign_registry_and_run_are_printable(tmp_path: Path) -> None:
    event = REGISTERED | {
        "alias": HOSTILE,
        "package_sha256": HOSTILE,
        "registered_at": HOSTILE,
        "metrics": {HOSTILE: 1},
    }
    event |= {"data_fingerprint": HOSTILE, "lineage": {HOSTILE: HOSTILE, "run": HOSTILE}}
    write_log(tmp_path / "registry", event, PUBLISHED | {"repo_id": HOSTILE, "tag": HOSTILE, "revision": HOSTILE})
    write_run(Path(runs_folder(str(tmp_path))) / "foreign")
    for command in ("models list", "models show gpt", "models compare gpt gpt", "runs list",
                    "runs compare foreign foreign", "checkpoints list foreign"):  # fmt: skip
        shown = CliRunner().invoke(cli, [*command.split(), "--data-dir", str(tmp_path)]).output
        assert shown.strip()
        assert is_printable(shown, lines=True), command
        assert not [line for line in shown.splitlines() if line.startswith("error: forged")], command
