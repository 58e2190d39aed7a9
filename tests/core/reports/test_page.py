"""The report shows what there is of a run, nothing of what there is not, and texts only as texts."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.core.reports.runs import FILES, PARITY, ROWS, with_every_text, write_run
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.reports import read_run, render_report, write_report

ATTACK = "<script>boom()</script><img src=x onerror=boom()>\"' onload='boom()'></style></title></svg>&amp;\x00\ud800"
ALL = [
    "verdict",
    "data",
    "models",
    "curves",
    "baselines",
    "errors",
    "samples",
    "cost",
    "tuning",
    "parity",
    "provenance",
    "links",
]
VOID = {"meta", "img", "line", "circle", "polyline"}


class Reader(HTMLParser):
    """Reads a page as a browser does: its elements, their attributes, and the text that is shown."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.shown = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.shown += f"{data} "


def render(data_dir: Path) -> str:
    document = render_report(read_run(RunPaths.under(data_dir, "gpt")), written_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert document is not None
    return document


def test_models_that_were_compared_stand_side_by_side(tmp_path: Path) -> None:
    write_run(tmp_path)
    shown = " ".join(Reader(render(tmp_path)).shown.split())
    assert "llama better 2.4000 ± 0.0200 \u22120.1000 ± 0.0300 910" in shown
    assert "Means over 3 seeds, on the test split; the difference is to the first model, seed by seed." in shown


def test_the_errors_of_a_classifier_are_shown_with_confusions_and_confidence(tmp_path: Path) -> None:
    write_run(tmp_path)
    shown = " ".join(Reader(render(tmp_path)).shown.split())
    assert "true class, taken for: joy fear right joy 8 2 80% fear 10 100%" in shown
    assert "Confidence and the share that is right lie 0.071 apart on average" in shown


def test_of_many_classes_the_most_frequent_confusions_are_listed(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "08_reporting/gpt/error_analysis.json"
    matrix = [[9 if i == j else 0 for j in range(20)] for i in range(20)]
    matrix[3][7], matrix[7][3] = 2, 5
    labels = [f"class{i}" for i in range(20)]
    path.write_text(json.dumps({"confusion": {"labels": labels, "matrix": matrix}}))
    shown = " ".join(Reader(render(tmp_path)).shown.split())
    assert "true class taken for examples class7 class3 5 class3 class7 2" in shown
    path.write_text(json.dumps({"confusion": {"labels": labels, "matrix": matrix[1:]}}))
    assert "errors" not in sections_of(render(tmp_path))


def sections_of(document: str) -> list[str | None]:
    return [value for name, value in Reader(document).attributes if name == "id"]


def test_a_complete_run_has_every_section(tmp_path: Path) -> None:
    document = render(write_run(tmp_path))
    assert sections_of(document) == ALL
    shown = Reader(document).shown
    assert "calm" not in shown  # no weak segment
    for value in ("TinyGPT", "Dropout is 0.9.", "model.py:7", "Use 0.1.", "156,305", "beats token frequencies", "73.7",
                 "or not to be", "477 MiB", "The winner beats", "0.0023", "3e-06", "3.71 MiB", "0123abc",
                 "875,264", "65 to 128", "expected joy, predicted fear"):  # fmt: skip
        assert value in shown, value


def test_every_element_is_closed(tmp_path: Path) -> None:
    assert Reader(render(write_run(tmp_path))).open == []


@pytest.mark.parametrize(
    ("files", "sections"),
    [
        (["validation_report.json"], ["verdict", "links"]),
        (["data_profile.json"], ["data", "links"]),
        (["metrics.jsonl"], ["curves", "cost", "links"]),
        (["samples.json"], ["samples"]),
        (["trials.csv"], ["tuning", "links"]),
        (["07_model_output/gpt/manifest.json"], ["parity", "links"]),
    ],
)
def test_sections_without_files_are_left_out(tmp_path: Path, files: list[str], sections: list[str]) -> None:
    present = {name: content for name, content in FILES.items() if name.endswith(tuple(files))}
    assert sections_of(render(write_run(tmp_path, present))) == sections


def test_no_report_is_written_of_a_run_without_files(tmp_path: Path) -> None:
    assert write_report(read_run(RunPaths.under(tmp_path, "gpt"))) is None
    assert list(tmp_path.iterdir()) == []


def test_a_text_is_shown_as_it_is_and_never_read_as_markup(tmp_path: Path) -> None:
    plain = Reader(render(write_run(tmp_path / "plain")))
    poisoned = {name: content if isinstance(content, str) else with_every_text(content, ATTACK)
                for name, content in FILES.items()}  # fmt: skip
    rows = f'{{"step": 20, "samples": ["{ATTACK.encode("unicode_escape").decode()[:24]}"]}}\n'
    poisoned["06_models/gpt/samples.jsonl"] = rows
    attacked = Reader(render(write_run(tmp_path / "poisoned", poisoned)))
    assert set(attacked.elements) <= set(plain.elements) - {"script"}
    assert not [name for name, _ in attacked.attributes if name.startswith("on")]
    assert "<script>boom()</script>" in attacked.shown
    assert attacked.open == []


def test_an_address_that_would_run_something_is_not_a_link(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(tmp_path, {"08_reporting/gpt/hub_publication.json": {"url": "javascript:boom()"}})
    links = [value for name, value in Reader(render(tmp_path)).attributes if name == "href"]
    assert links
    assert all(re.match(r"#|\./|\.\./", link or "") for link in links)


def test_the_page_asks_for_nothing_outside_itself(tmp_path: Path) -> None:
    (write_run(tmp_path) / "08_reporting/gpt/validation.png").write_bytes(b"\x89PNG")
    document = render(tmp_path)
    sources = [value or "" for name, value in Reader(document).attributes if name in ("src", "srcset", "data")]
    assert sources == ["data:image/png;base64,iVBORw=="]
    assert "url(" not in document
    assert "@import" not in document


def test_a_secret_in_a_text_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "correct-horse-battery")
    write_run(tmp_path, {"08_reporting/gpt/samples.json": {"samples": ["key correct-horse-battery"]}})
    assert "correct-horse-battery" not in render(tmp_path)


@pytest.mark.parametrize("noise", ["", "{", "[]", "null", '{"status": 3, "findings": 3, "samples": 3, "formats": [3]}'])
def test_files_that_were_damaged_do_no_harm(tmp_path: Path, noise: str) -> None:
    write_run(tmp_path, {name: noise for name in FILES if name.endswith((".json", ".jsonl", ".csv"))})
    write_run(tmp_path, {"08_reporting/gpt/samples.json": {"samples": ["still here"]}})
    assert "still here" in render(tmp_path)


def test_a_torn_last_row_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path)
    with (tmp_path / "06_models/gpt/metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "train/lo')
    assert len(read_run(RunPaths.under(tmp_path, "gpt")).metrics) == len(ROWS)


def test_the_report_of_a_fork_shows_the_preparation_it_shares(tmp_path: Path) -> None:
    write_run(tmp_path)
    record = read_run(RunPaths.under(tmp_path, "gpt-best", "gpt"))
    assert record.paths.report == tmp_path / "08_reporting/gpt-best/report.html"
    assert record.validation["status"] == "fail"
    assert record.evaluation == {}


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(read_run(RunPaths.under(write_run(tmp_path), "gpt")))
    assert path is not None
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(read_run(RunPaths.under(tmp_path, "gpt")))
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.new*"))


def test_a_smaller_format_shows_its_change_of_perplexity(tmp_path: Path) -> None:
    small = {"format": "onnx-int8", "status": "verified", "max_abs_error": 0.05, "relative_change": 0.00123}
    write_run(tmp_path, {"07_model_output/gpt/manifest.json": {"formats": [small]}})
    assert "perplexity +0.12%" in Reader(render(tmp_path)).shown


def test_a_format_that_failed_says_why(tmp_path: Path) -> None:
    failed = PARITY | {"status": "failed", "max_abs_error": None, "reason": "The graph has a loop."}
    write_run(tmp_path, {"07_model_output/gpt/manifest.json": {"formats": [failed]}})
    assert "onnx: The graph has a loop." in Reader(render(tmp_path)).shown
