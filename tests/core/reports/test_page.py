"""The report shows what there is of a run, nothing of what there is not, and texts only as texts."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.core.reports.runs import FILES, PARITY, ROWS, with_every_text, write_checkpoint, write_run
from transformer_foundry.core.evaluation.assess import compare_with_baselines
from transformer_foundry.core.files.provenance import digest_of, with_origin
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.publishing import Package
from transformer_foundry.core.publishing.registry.event_log import RegistryLog
from transformer_foundry.core.reports import read_run, render_report, write_report
from transformer_foundry.core.reports.summary import summarize

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


def test_the_report_begins_with_a_summary_in_plain_words(tmp_path: Path) -> None:
    write_run(tmp_path)
    paths = RunPaths.under(tmp_path, "gpt")
    record = dataclasses.replace(
        read_run(paths),
        profile={"task": "causal_lm", "splits": {"train": {"documents": 355, "tokens": 156305}}},
        validation={"model": {"name": "SampleGPT"}},
        metrics=({"step": 400, "train/tokens_seen": 818362.0},),
        evaluation={
            "validation": {"loss": 3.359, "perplexity": 28.76},
            "comparisons": compare_with_baselines({"loss": 3.359}, {"unigram_loss": 5.3, "bigram_loss": 3.53}),
        },
        package={"model": {"parameter_count": 875264}, "formats": [{"status": "verified"}] * 7},
    )
    assert summarize(record) == (
        "SampleGPT is a model with 875,264 parameters that continues texts. It learned from 355 texts "
        "(156,305 tokens), which it has read 5 times. On texts that it has not seen it is as unsure of the next token "
        "as if it chose among 29 equally likely ones. That is better than token frequencies, a bigram model: it has "
        "learned more than counting. The package holds it in 7 formats, each of which gives the model's own answers."
    )
    worse = compare_with_baselines({"loss": 6.0}, {"unigram_loss": 5.3})
    poor = dataclasses.replace(record, evaluation={"comparisons": worse}, package={}, profile={}, metrics=())
    advice = "it needs more steps, more data or other settings."
    assert summarize(poor) == f"SampleGPT is a model. It does not beat token frequencies yet: {advice}"
    assert summarize(dataclasses.replace(poor, evaluation={})) == ""
    assert '<p class="summary">' in render(tmp_path)


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
    matrix = [[9 if i == j else 0 for j in range(20)] for i in range(20)]
    matrix[3][7], matrix[7][3] = 2, 5
    labels = [f"class{i}" for i in range(20)]
    write_run(tmp_path, {"08_reporting/gpt/error_analysis.json": {"confusion": {"labels": labels, "matrix": matrix}}})
    shown = " ".join(Reader(render(tmp_path)).shown.split())
    assert "true class taken for examples class7 class3 5 class3 class7 2" in shown
    damaged = {"confusion": {"labels": labels, "matrix": matrix[1:]}}
    write_run(tmp_path, {"08_reporting/gpt/error_analysis.json": damaged})
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
        (["samples.json"], ["samples", "links"]),
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
    publish(tmp_path, "javascript:boom()")
    document = render(tmp_path)
    links = [value for name, value in Reader(document).attributes if name == "href"]
    assert "alice/gpt v1 on the Hugging Face Hub" in Reader(document).shown
    assert all(re.match(r"#|\./|\.\./", link or "") for link in links)


def publish(data_dir: Path, url: str) -> None:
    """Note in the registry that the package was published."""
    package = Package(data_dir / "07_model_output/gpt", {"model": {"name": "gpt"}})
    log = RegistryLog(data_dir / "registry")
    (data_dir / "registry").mkdir()
    version = {"name": "gpt", "version": 1}
    log.append({"event": "registered", **version, "package_sha256": package.digest, "registered_at": "", "metrics": {},
                "lineage": {}, "data_fingerprint": ""})  # fmt: skip
    log.append({"event": "published", **version, "repo_id": "alice/gpt", "tag": "v1", "revision": "f" * 40, "url": url})


def test_only_releases_of_this_very_package_are_shown(tmp_path: Path) -> None:
    publish(write_run(tmp_path), "https://huggingface.co/alice/gpt")
    assert "published v1" in Reader(render(tmp_path)).shown
    write_run(tmp_path, {"07_model_output/gpt/manifest.json": {"formats": [PARITY], "more": 1}})
    assert "alice" not in render(tmp_path)


@pytest.mark.parametrize(
    ("name", "section", "said"),
    [
        ("validation_report.json", "verdict", "The report of the checks is of another model. Not shown; renew with: "),
        ("data_profile.json", "data", "The profile of the data is of other data."),
        ("evaluation.json", "baselines", "The evaluation is of step 20 instead of 40, another model and other data."),
        ("error_analysis.json", "errors", "The error analysis is of step 20 instead of 40"),
        ("samples.json", "samples", "The samples of the trained model are of step 20 instead of 40"),
        ("comparison.json", "models", "The comparison of models is of other data."),
        ("search_comparison.json", "tuning", "The result of the search is of another model and other data."),
        ("07_model_output/gpt/manifest.json", "parity", "The package is of step 20 instead of 40"),
    ],
)
def test_what_belongs_to_another_checkpoint_is_not_shown_but_named(
    tmp_path: Path, name: str, section: str, said: str
) -> None:
    write_run(tmp_path)
    (path,) = tmp_path.rglob(Path(name).name) if "/" not in name else [tmp_path / name]
    other = {"model": "x", "data": "x", "tokenizer": "x", "weights": "x", "step": 20}
    content = json.loads(path.read_text())
    path.write_text(json.dumps(with_origin(content, other)))
    document = render(tmp_path)
    shown = " ".join(Reader(document).shown.split())
    assert said in shown
    assert section in sections_of(document)
    assert "outdated" in shown

    path.write_text(json.dumps({key: value for key, value in content.items() if key != "made_from"}))
    assert "of unknown origin" in render(tmp_path)


def test_a_result_that_has_changed_since_it_was_written_is_not_shown_but_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    (path,) = tmp_path.rglob("evaluation.json")
    content = json.loads(path.read_text())
    kept = with_origin(content, content["made_from"])
    path.write_text(json.dumps(kept | {"validation": {"loss": 0.125}}))
    document = render(tmp_path)
    assert "The evaluation is of content that has changed since it was written. Not shown" in document
    assert "0.125" not in document


def test_a_better_checkpoint_makes_outdated_what_was_made_of_the_earlier_one(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_checkpoint(tmp_path / "06_models/gpt/checkpoints/step-00000060", b"better")
    record = read_run(RunPaths.under(tmp_path, "gpt"), command=lambda pipeline: f"renew {pipeline}")

    assert record.outdated == {
        "baselines": ("The evaluation is of step 40 instead of 60. Not shown; renew with: renew training",),
        "errors": ("The error analysis is of step 40 instead of 60. Not shown; renew with: renew training",),
        "samples": (
            "The samples of the trained model are of step 40 instead of 60. Not shown; renew with: renew training",
        ),
        "parity": ("The package is of step 40 instead of 60. Not shown; renew with: renew deployment",),
    }
    assert (record.evaluation, record.package, record.validation["status"]) == ({}, {}, "fail")


def test_without_a_checkpoint_nothing_is_said_of_a_trained_model(tmp_path: Path) -> None:
    shutil.rmtree(write_run(tmp_path) / "06_models/gpt/checkpoints")
    record = read_run(RunPaths.under(tmp_path, "gpt"))
    assert "of a checkpoint that is no longer there" in record.outdated["baselines"][0]
    assert (record.evaluation, record.samples, record.package) == ({}, {}, {})


def test_the_page_asks_for_nothing_outside_itself(tmp_path: Path) -> None:
    picture = write_run(tmp_path) / "08_reporting/gpt/validation.png"
    picture.write_bytes(b"\x89PNG")
    assert "data:image" not in render(tmp_path)  # that of another report
    report = json.loads(picture.with_name("validation_report.json").read_text())
    picture.write_bytes(content := b"\x89PNG" + digest_of(report["made_from"]).encode())
    document = render(tmp_path)
    sources = [value or "" for name, value in Reader(document).attributes if name in ("src", "srcset", "data")]
    assert sources == [f"data:image/png;base64,{base64.b64encode(content).decode()}"]
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


def test_an_interrupted_run_is_at_the_step_of_its_newest_checkpoint(tmp_path: Path) -> None:
    manifest = FILES["06_models/gpt/manifest.json"] | {"total_steps": 200, "result": {}}
    write_run(tmp_path, FILES | {"06_models/gpt/manifest.json": manifest})
    write_checkpoint(tmp_path / "06_models/gpt/checkpoints/step-00000043")  # three steps after the last row of metrics
    assert "training: step 43 of 200" in Reader(render(tmp_path)).shown


def test_a_run_that_has_ended_is_trained(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert "trained: step 40 of 40" in Reader(render(tmp_path)).shown


def test_a_language_model_has_no_link_to_errors(tmp_path: Path) -> None:
    name = "08_reporting/gpt/error_analysis.json"
    write_run(tmp_path)
    assert "Errors of the model" in Reader(render(tmp_path)).shown
    write_run(tmp_path, {name: {"task": "causal_lm", "split": "validation", "examples": 0}})
    assert "Errors of the model" not in Reader(render(tmp_path)).shown


@pytest.mark.parametrize(
    ("judged_by", "shown"),
    [
        ("accuracy on rows of the test split", "accuracy +0.00%"),
        ("divergence from the model's predictions", "perplexity +0.00%"),
    ],
)
def test_a_smaller_format_names_the_metric_that_decided(judged_by: str, shown: str, tmp_path: Path) -> None:
    small = {"format": "onnx-int8", "status": "verified", "relative_change": -0.00001, "judged_by": judged_by}
    write_run(tmp_path, {"07_model_output/gpt/manifest.json": {"formats": [small]}})
    assert shown in Reader(render(tmp_path)).shown


def test_a_smaller_format_shows_its_change_of_perplexity(tmp_path: Path) -> None:
    small = {"format": "onnx-int8", "status": "verified", "max_abs_error": 0.05, "relative_change": 0.00123}
    write_run(tmp_path, {"07_model_output/gpt/manifest.json": {"formats": [small]}})
    assert "perplexity +0.12%" in Reader(render(tmp_path)).shown


def test_a_damaged_package_is_not_shown_as_verified(tmp_path: Path) -> None:
    file = {"model.onnx": {"sha256": "0" * 64, "size_bytes": 5}}
    write_run(tmp_path, {"07_model_output/gpt/manifest.json": {"formats": [PARITY], "files": file}})
    assert "verified" not in Reader(render(tmp_path)).shown


def test_a_format_that_failed_says_why(tmp_path: Path) -> None:
    failed = PARITY | {"status": "failed", "max_abs_error": None, "reason": "The graph has a loop."}
    write_run(tmp_path, {"07_model_output/gpt/manifest.json": {"formats": [failed]}})
    assert "onnx: The graph has a loop." in Reader(render(tmp_path)).shown
