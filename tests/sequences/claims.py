"""Every statement of reports, results, cards, registry and lists, compared with the artefacts that it is about."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.sequences.page import Page, Section
from tests.sequences.truth import Run, read, read_rows, runs, sha256

_MEASURES = {"loss, nats per target": "loss", "chrF": "chrf"}
_TOLERANCE = 6e-4
"""Numbers are shown with four digits."""


@dataclass
class Claims:
    """The statements that were checked, and those that are false."""

    n_checked: int = 0
    false: list[str] = field(default_factory=list)

    def check(self, where: str, statement: object, is_true: object) -> None:
        self.n_checked += 1
        if not is_true:
            self.false.append(f"{where}: {statement}")

    def same(self, where: str, name: str, shown: str, value: object) -> None:
        self.check(where, f"{name} {shown} (it is {value})", is_same(shown, value))


def is_same(shown: str, value: object) -> bool:
    """Whether a text shows a value: equal as text, or as a number of four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shown == ("" if value is None else " ".join(str(value).split())) or (shown == "-" and value is None)
    try:
        return math.isclose(float(shown.replace(",", "").replace("\u2212", "-")), value, rel_tol=_TOLERANCE)
    except ValueError:
        return False


def check_everything(data_dir: Path, hub: Mapping[str, Mapping[str, Mapping[str, bytes]]] | None = None) -> Claims:
    """Check all statements under ``data_dir``.

    Args:
        data_dir: Root of everything that was written.
        hub: Repository -> tag -> file -> content, as the Hub has them.
    """
    claims = Claims()
    for run in runs(data_dir):
        _Results(claims, run).check()
        _Report(claims, run).check()
        _check_package(claims, run, run.data_dir / "07_model_output" / run.name)
    _check_registry(claims, data_dir, hub or {})
    return claims


def origin(artefact: Mapping[str, Any]) -> Mapping[str, Any]:
    found = artefact.get("made_from")
    return found if isinstance(found, Mapping) else {}


def of_best(run: Run, artefact: Mapping[str, Any]) -> bool:
    """Whether an artefact says that it was made from the best checkpoint of the run."""
    made, best = origin(artefact), run.best
    if best is None:
        return False
    expected = {"weights": best.weights, "step": best.step, "data": run.data, "model": run.model}
    return {name: made.get(name) for name in expected} == expected


class _Results:
    """``evaluation.json``, ``samples.json``, ``error_analysis.json``: each names what it is made from, and it is so."""

    def __init__(self, claims: Claims, run: Run) -> None:
        self.claims, self.run = claims, run

    def check(self) -> None:
        folder = self.run.data_dir / "08_reporting" / self.run.name
        for name in ("evaluation.json", "samples.json", "error_analysis.json"):
            result = read(folder / name)
            if result:
                self._check_origin(f"{self.run.name}/{name}", result)
        if evaluation := read(folder / "evaluation.json"):
            self._check_evaluation(f"{self.run.name}/evaluation.json", evaluation)
        for path in self.run.data_dir.glob("08_reporting/*/validation_report.json"):
            self.claims.check(str(path), "names its model", origin(read(path)).get("model"))
        for path in self.run.data_dir.glob("08_reporting/*/data_profile.json"):
            self.claims.check(str(path), "names its data", origin(read(path)).get("data"))

    def _check_origin(self, where: str, result: Mapping[str, Any]) -> None:
        made = origin(result)
        for name in ("model", "data", "weights", "step"):
            self.claims.check(where, f"names its {name}", made.get(name))
        if "step" in result:
            self.claims.check(
                where, f"step {result['step']} is that of its weights", made.get("step") == result["step"]
            )
        of_step = [item for item in self.run.checkpoints if item.step == made.get("step")]
        known = [item for item in of_step if item.weights == made.get("weights")]
        self.claims.check(
            where, "its weights are those of its step", known or not of_step or not of_best(self.run, result)
        )

    def _check_evaluation(self, where: str, evaluation: Mapping[str, Any]) -> None:
        validation = evaluation["validation"]
        perplexity = math.exp(validation["loss"]) if "perplexity" in validation else None
        if perplexity is not None:
            self.claims.same(where, "perplexity", str(validation["perplexity"]), perplexity)
        for item in evaluation["comparisons"]:
            lower = item["metric"] == "loss"
            beaten = (item["value"] < item["baseline_value"]) == lower and item["value"] != item["baseline_value"]
            self.claims.check(where, item["sentence"], item["is_beaten"] == beaten)
            self.claims.check(where, item["sentence"], item["value"] == validation[item["metric"]])
        if of_best(self.run, evaluation) or not origin(evaluation):
            logged = _logged(self.run, evaluation["step"])
            self.claims.check(
                where, f"loss {validation['loss']} (logged: {logged})", _close(validation["loss"], logged)
            )
            tokens = self.run.tokens()
            if tokens is not None:
                self.claims.check(where, "baselines of the data", evaluation["baselines"] == tokens["baselines"])


def _words(text: str) -> list[str]:
    """The words of a text; a report shows control characters by their pictures (U+2400 and on)."""
    return text.translate({code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)}).split()


def _logged(run: Run, step: int) -> float | None:
    return next((row["eval/loss"] for row in run.rows if row["step"] == step and "eval/loss" in row), None)


def _close(value: float, logged: float | None) -> bool:
    return logged is None or math.isclose(value, logged, rel_tol=1e-3)


class _Report:
    """``report.html`` of a run."""

    def __init__(self, claims: Claims, run: Run) -> None:
        self.claims, self.run = claims, run
        self.reports = run.data_dir / "08_reporting" / run.name
        self.where = f"{run.name}/report.html"
        self.profiles = [item for item in self._all("data_profile.json") if item.get("fingerprint") == run.data]
        self.checked = [
            item for item in self._all("validation_report.json") if item.get("model", {}).get("identity") == run.model
        ]
        package = run.data_dir / "07_model_output" / run.name
        self.package = read(package / "manifest.json")
        self.package_is_best = bool(self.package) and _holds_weights(package, run)
        self.evaluation = read(self.reports / "evaluation.json")
        self.evaluation_is_best = self._is_of_best(self.evaluation)

    def check(self) -> None:
        path = self.reports / "report.html"
        if not path.is_file():
            return
        page = Page(path.read_text(encoding="utf-8"))
        if any("This page shows the state before" in text for text in page.sections[""].banners):
            return  # it was checked then
        self._same("name", page.title, self.run.name)
        self._check_header(page)
        for name in list(page.sections):
            if name:
                getattr(self, f"_{name}", lambda section: None)(page.sections[name])
                self._check_banners(name, page.sections[name])

    def _all(self, name: str) -> list[dict[str, Any]]:
        return [read(path) for path in sorted(self.run.data_dir.glob(f"08_reporting/*/{name}"))]

    def _is_of_best(self, result: Mapping[str, Any]) -> bool:
        """By its origin; without one by its step and the loss that was logged there."""
        best = self.run.best
        if not result or best is None:
            return False
        if origin(result):
            return of_best(self.run, result)
        logged, loss = _logged(self.run, best.step), result.get("validation", {}).get("loss")
        return result.get("step") == best.step and (loss is None or _close(loss, logged))

    def _check(self, statement: str, is_true: object) -> None:
        self.claims.check(self.where, statement, is_true)

    def _same(self, name: str, shown: str, value: object) -> None:
        self.claims.same(self.where, name, shown, value)

    def _check_header(self, page: Page) -> None:
        head = page.sections[""]
        n_banners = sum(len(section.banners) for section in page.sections.values())
        for chip in head.chips:
            self._check_chip(chip, n_banners)
        newest = self.run.rows[-1] if self.run.rows else {}
        for name, shown in head.facts:
            if name == "tokens seen":
                value = next(
                    (row["train/tokens_seen"] for row in reversed(self.run.rows) if "train/tokens_seen" in row), None
                )
                self._same(name, shown, value)
            elif name == "parameters":
                self._check(f"parameters {shown}", self.package_is_best)
                self._same(name, shown, self.package.get("model", {}).get("parameter_count"))
            else:
                self._check_measure_tile(name, shown, newest)
        for paragraph in head.paragraphs:
            self._check_subtitle(paragraph)

    def _check_measure_tile(self, name: str, shown: str, newest: Mapping[str, Any]) -> None:
        measure, _, step = name.removeprefix("validation ").partition(" of step ")
        at = int(step.replace(",", "")) if step else (self.run.best.step if self.run.best else None)
        evaluated = next((row for row in self.run.rows if row["step"] == at and f"eval/{measure}" in row), {})
        value = evaluated.get(f"eval/{measure}")
        if value is None and self.evaluation_is_best:
            value = self.evaluation["validation"].get(measure)
        self._check(f"{name} {shown} (it is {value})", value is not None and math.isclose(
            float(shown.replace(",", "")), value, rel_tol=2e-3))  # fmt: skip

    def _check_subtitle(self, text: str) -> None:
        for part in text.split(" · "):
            known = [item.get("model", {}).get("name") for item in self.checked] + [i.get("kind") for i in self.checked]
            known += [item.get("task") for item in self.profiles]
            known += [self.package.get("model", {}).get("name")] if self.package_is_best else []
            if part and not part.startswith(("model ", "train", "publish")) and "of" not in part.split():
                self._check(f"subtitle {part}", part in known or "outdated" in part or "compared" in part)

    def _check_chip(self, chip: str, n_banners: int) -> None:
        if chip in ("model sound", "model has problems"):
            status = "pass" if chip == "model sound" else "fail"
            self._check(chip, any(item.get("status") == status for item in self.checked))
        elif found := re.fullmatch(r"(trained|training): step ([\d,]+) of ([\d,]+|-)", chip):
            word, step, total = found.groups()
            self._same("step", step, self.run.rows[-1]["step"])
            self._same("total steps", total, self.run.manifest.get("total_steps"))
            ended = self.run.manifest.get("result", {}).get("step") == self.run.rows[-1]["step"]
            has_it = self.run.newest is not None and self.run.newest.step == self.run.rows[-1]["step"]
            is_done = ended and (has_it or not self.run.checkpoints)
            self._check(chip, is_done if word == "trained" else True)
        elif found := re.fullmatch(r"(\d+) of (\d+) baselines beaten", chip):
            comparisons = self.evaluation.get("comparisons", [])
            expected = sum(item["is_beaten"] for item in comparisons), len(comparisons)
            self._check(chip, self.evaluation_is_best and expected == tuple(map(int, found.groups())))
        elif found := re.fullmatch(r"(\d+) of (\d+) formats verified", chip):
            formats = self.package.get("formats", [])
            expected = sum(item["status"] == "verified" for item in formats), len(formats)
            self._check(chip, self.package_is_best and expected == tuple(map(int, found.groups())))
        elif chip.startswith("published"):
            self._check(chip, self._is_published(chip.removeprefix("published").strip()))
        elif found := re.fullmatch(r"(\d+) parts? outdated", chip):
            self._check(chip, int(found[1]) == n_banners)
        elif found := re.fullmatch(r"(\d+) models compared", chip):
            self._same(chip, found[1], len(read(self.reports / "comparison.json").get("models", [])))
        else:
            self._check(f"unknown chip {chip}", is_true=False)

    def _is_published(self, tag: str) -> bool:
        digest = sha256(self.run.data_dir / "07_model_output" / self.run.name / "manifest.json")
        events = [json.loads(line.partition(" ")[2]) for line in _lines(self.run.data_dir / "registry" / "log.jsonl")]
        versions = {
            (event["name"], event["version"])
            for event in events
            if event["event"] == "registered" and event["package_sha256"] == digest
        }
        return any(
            event["event"] == "published"
            and (event["name"], event["version"]) in versions
            and tag in ("", event["tag"])
            for event in events
        )

    def _verdict(self, section: Section) -> None:
        for text in section.paragraphs[:1]:
            found = re.search(r"(sound|\d+ problems) (\S+), (.*), checked in ([\d.]+) s", text)
            self._check(text, found and any(self._is_verdict(item, *found.groups()[1:]) for item in self.checked))
        messages = {finding["message"] for item in self.checked for finding in item["findings"]}
        for item in section.items:
            self._check(item[:60], any(" ".join(message.split())[:40] in item for message in messages))

    def _is_verdict(self, report: Mapping[str, Any], name: str, kind: str, seconds: str) -> bool:
        shown = is_same(seconds, float(f"{report['seconds']:.2g}"))
        return shown and (report["model"]["name"], str(report["kind"])) == (name, kind)

    def _data(self, section: Section) -> None:
        names = {"source": "source", "task": "task", "longest row": "max_length"}
        for name, shown in section.facts:
            if name in names:
                self._check(f"{name} {shown}", any(is_same(shown, item.get(names[name])) for item in self.profiles))
            elif name == "texts":
                self._check(f"texts {shown}", any(is_same(shown, item["texts"]["documents"]) for item in self.profiles))
            elif name == "tokenizer":
                known = [
                    f"{i['tokenizer']['algorithm']}, {i['tokenizer']['vocab_size']:,} tokens" for i in self.profiles
                ]
                self._check(f"tokenizer {shown}", shown in known)
            else:
                self._check(f"{name} {shown}", self.profiles)
        head, *rows = section.rows or [[]]
        tokens = self.run.tokens()
        for split, *cells in rows:
            for title, shown in zip(head[1:], cells, strict=True):
                key = {"rows cut off": "truncated_rows"}.get(title, title.replace(" ", "_"))
                known = [item["splits"][split].get(key) for item in self.profiles]
                self._check(f"{split} {title} {shown}", any(is_same(shown, value) for value in known))
                if title == "documents" and tokens is not None:
                    self._same(f"{split} {title}", shown, tokens["splits"][split]["documents"])
        messages = [" ".join(f["message"].split()) for item in self.profiles for f in item["findings"]]
        for item in section.items:
            self._check(item[:60], any(message[:40] in item for message in messages))
        examples = [
            text for item in self.profiles for example in item["examples"] for text in map(str, example.values())
        ]
        for text in section.texts:
            self._check(f"example {text[:30]}", text in examples)

    def _baselines(self, section: Section) -> None:
        for item in section.items:
            found = re.search(r"(\w+) ([\d.]+) (beats|does not beat) .* \(([\d.]+)\)", item)
            tokens = self.run.tokens()
            values = self.evaluation.get("validation", {})
            is_true = found and self.evaluation_is_best and is_same(found[2], round(values.get(found[1], 0), 3))
            if found and tokens is not None:
                is_true = is_true and any(is_same(found[4], round(value, 3)) for value in tokens["baselines"].values())
            self._check(item, is_true)
        head, *rows = section.rows or [[]]
        for measure, *cells in rows:
            key = _MEASURES.get(measure, measure.replace(" ", "_"))
            for split, shown in zip(head[1:], cells, strict=True):
                value = self.evaluation.get(split, {}).get(key)
                self._check(f"{split} {measure} {shown}", self.evaluation_is_best and is_same(shown, value))

    def _errors(self, section: Section) -> None:
        analysis = read(self.reports / "error_analysis.json")
        for statement in (*section.paragraphs, *(" ".join(row) for row in section.rows), *section.texts):
            self._check(statement[:60], self._is_of_best(analysis))

    def _samples(self, section: Section) -> None:
        final = read(self.reports / "samples.json")
        earlier = [text for row in read_rows(self.run.folder / "samples.jsonl") for text in row.get("samples", [])]
        for text in section.texts:
            known = [*earlier, *(final.get("samples", []) if self._is_of_best(final) else [])]
            self._check(f"sample {text[:40]!r}", any(_words(text) == _words(item) for item in known))

    def _cost(self, section: Section) -> None:
        for name, shown in section.facts:
            if name == "tokens seen":
                seen = [row["train/tokens_seen"] for row in self.run.rows if "train/tokens_seen" in row]
                self._same(name, shown, seen[-1] if seen else None)
            else:
                self._check(f"{name} {shown}", self.run.rows)

    def _tuning(self, section: Section) -> None:
        result = [item for item in self._all("search_comparison.json") if self._is_of_run(item)]
        best = [read(path) for path in self.run.data_dir.glob("06_models/*/tuning/best_parameters.json")]
        best = [item for item in best if (item.get("model"), item.get("data")) == (self.run.model, self.run.data)]
        for text in section.paragraphs:
            self._check(text, any(" ".join(item["verdict"].split()) == text for item in result))
        for name, shown in section.facts:
            self._check(f"{name} {shown}", any(is_same(shown, item["parameters"].get(name)) for item in best))
        for row in section.rows[1:]:
            self._check(f"trial {row}", best)

    def _is_of_run(self, result: Mapping[str, Any]) -> bool:
        made = origin(result)
        return (made.get("model"), made.get("data")) == (self.run.model, self.run.data)

    def _parity(self, section: Section) -> None:
        formats = {entry["format"]: entry for entry in self.package.get("formats", [])}
        for name, status, *_rest, size in section.rows[1:]:
            entry = formats.get(name, {})
            self._check(f"{name} {status} {size}", self.package_is_best and entry.get("status") == status)
        for item in section.items:
            self._check(item, self.package_is_best)

    def _provenance(self, section: Section) -> None:
        manifest = self.run.manifest
        known = {
            "started": manifest["sessions"][0].get("started_at"),
            "sessions": len(manifest["sessions"]),
            "platform": manifest["environment"].get("platform"),
            "python": manifest["environment"].get("python"),
            **manifest["identity"],
            **manifest["environment"].get("packages", {}),
            **{f"seed of {name}": seed for name, seed in manifest.get("seeds", {}).items()},
        }
        for name, shown in section.facts:
            values = [known[name]] if name in known else []
            values += [part[name] for part in manifest["parameters"].values() if name in part]
            self._check(f"{name} {shown}", not values or any(is_same(shown, str(value)) for value in values))

    def _links(self, section: Section) -> None:
        for label, target in section.links:
            if target.startswith("./"):
                self._check(f"link {label} {target}", (self.reports / target).exists())

    def _check_banners(self, name: str, section: Section) -> None:
        for text in section.banners:
            self._check(text, self._is_outdated(name, text))
            self._check(
                f"{name} shows nothing beside: {text}", not section.has_content or name in ("tuning", "samples")
            )
            self._check(f"names what renews it: {text}", "kedro run" in text)

    def _is_outdated(self, name: str, text: str) -> bool:
        best = self.run.best
        if name == "verdict":
            return not any(
                of_model.get("model") == self.run.model
                for of_model in map(origin, self._shared("validation_report.json"))
            )
        if name == "data":
            return not any(
                of_data.get("data") == self.run.data for of_data in map(origin, self._shared("data_profile.json"))
            )
        if name in ("baselines", "samples", "errors"):
            file = {"baselines": "evaluation.json", "samples": "samples.json", "errors": "error_analysis.json"}[name]
            made = origin(read(self.reports / file))
            stated = re.search(r"step (\d+) instead of (\d+)", text)
            if stated and best is not None:
                return (made.get("step"), best.step) == tuple(map(int, stated.groups()))
            return not self._is_of_best(read(self.reports / file))
        if name == "parity":
            return not self.package_is_best or "another evaluation" in text
        return True

    def _shared(self, name: str) -> list[dict[str, Any]]:
        """The file that the report of this run reads: that of its own preparation, whichever that is."""
        shared = str(self.run.manifest["parameters"].get("run", {}).get("preparation") or self.run.name)
        return [read(self.run.data_dir / "08_reporting" / shared / name)]


def _holds_weights(package: Path, run: Run) -> bool:
    """Whether a package holds the tensors of the run's best checkpoint."""
    if run.best is None or not (package / "model.safetensors").is_file():
        return False
    packaged = load_file(package / "model.safetensors")
    trained = load_file(run.best.folder / "weights.safetensors")
    common = packaged.keys() & trained.keys()
    return bool(common) and all(np.array_equal(packaged[name], trained[name]) for name in common)


def _check_package(claims: Claims, run: Run | None, folder: Path) -> None:
    """The manifest of a package and its card: both about the weights that are in it."""
    manifest = read(folder / "manifest.json")
    if not manifest:
        return
    where, card = f"{folder.name}/README.md", (folder / "README.md").read_text(encoding="utf-8")
    made = origin(manifest)
    for name in ("model", "data", "weights", "step", "evaluation"):
        claims.check(where, f"the manifest names its {name}", made.get(name))
    for name, entry in manifest["files"].items():
        claims.check(where, f"{name} has its sha256", sha256(folder / name) == entry["sha256"])
    for name, size, digest in re.findall(r"^\| `([^`]+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", card, re.M):
        claims.check(where, f"{name} {size} {digest[:12]}", sha256(folder / name) == digest)
    step = re.search(r"Weights of step ([\d,]+) of ([\d,]+)", card)
    if step:
        claims.same(where, "step", step[1], made.get("step", manifest["training"]["step"]))
    splits = [manifest["evaluation"].get(name) or {} for name in ("validation", "test")]
    for name, *shown in re.findall(
        r"^\| ([a-z_ ]+?)(?: \(nats per target token\))? \| ([\d.e+-]*) \| ([\d.e+-]*) \|$", card, re.M
    ):
        for value, split in zip(shown, splits, strict=True):
            key = name.replace(" ", "_")
            claims.check(where, f"{name} {value}", not value or is_same(value, split.get(key)))
    claims.check(where, "data", manifest["data"].get("fingerprint", "") in card)
    claims.check(
        where,
        "the evaluation is of these weights",
        origin(manifest["evaluation"]).get("weights") == made.get("weights"),
    )
    if run is not None and run.best is not None and made.get("weights") == run.best.weights:
        claims.check(where, "the weights are those of the checkpoint that it names", _holds_weights(folder, run))


def _check_registry(claims: Claims, data_dir: Path, hub: Mapping[str, Mapping[str, Mapping[str, bytes]]]) -> None:
    events = [json.loads(line.partition(" ")[2]) for line in _lines(data_dir / "registry" / "log.jsonl")]
    registered = {(event["name"], event["version"]): event for event in events if event["event"] == "registered"}
    digests = [(event["name"], event["package_sha256"]) for event in registered.values()]
    for (name, version), event in registered.items():
        where, folder = f"registry {name}:{version}", data_dir / "registry" / name / f"v{version}"
        manifest = read(folder / "manifest.json")
        claims.check(where, "one version for one package", digests.count((name, event["package_sha256"])) == 1)
        claims.check(where, "package", sha256(folder / "manifest.json") == event["package_sha256"])
        claims.check(where, "step", event["lineage"].get("step") == manifest["training"]["step"])
        claims.check(where, "model", event["lineage"].get("model") == manifest["model"]["identity"])
        claims.check(where, "data", event["data_fingerprint"] == manifest["data"]["fingerprint"])
        claims.check(where, "origin", event.get("made_from") == manifest.get("made_from") and event.get("made_from"))
        for metric, value in event["metrics"].items():
            claims.check(where, f"{metric} {value}", manifest["evaluation"]["test"].get(metric) == value)
        run = next((run for run in runs(data_dir) if run.name == event["lineage"].get("run")), None)
        started = None if run is None else run.manifest["sessions"][0].get("started_at")
        if run is not None and event["lineage"].get("run_started_at") == started:  # no other run of the same name
            kept = [item for item in run.checkpoints if item.step == event["lineage"]["step"]]
            same = [item for item in kept if item.weights == origin(event).get("weights")]
            claims.check(where, f"of run {run.name}", same or not kept or origin(event).get("data") != run.data)
        _check_package(claims, None, folder)
    for event in events:
        if event["event"] == "published" and event["repo_id"] in hub:
            released = hub[event["repo_id"]].get(event["tag"], {})
            package = data_dir / "registry" / event["name"] / f"v{event['version']}" / "manifest.json"
            where = f"registry {event['name']}:{event['version']}"
            claims.check(where, f"published {event['tag']}", released.get("manifest.json") == package.read_bytes())
    for repo, tags in hub.items():
        contents = [files.get("manifest.json") for files in tags.values()]
        claims.check(f"hub {repo}", "one release for one package", len(set(contents)) == len(contents))


def check_run_list(claims: Claims, data_dir: Path, printed: str) -> None:
    """Check what ``kedro runs list`` prints: its columns are separated by two spaces or more."""
    head, *lines = printed.splitlines()
    titles = re.split(r"\s{2,}", head.strip())
    known = {run.name: run for run in runs(data_dir)}
    for line in lines:
        row = dict(zip(titles, re.split(r"\s{2,}", line.strip()), strict=False))
        run = known.get(row["run"])
        if run is None:
            continue
        newest = run.newest
        kept = [item for item in run.rows if newest is not None and item["step"] <= newest.step]
        train = [item["train/loss"] for item in kept if "train/loss" in item]
        evaluated = [item["eval/loss"] for item in kept if "eval/loss" in item]
        where = f"kedro runs list, {run.name}"
        claims.same(where, "step", row["step"], newest.step if newest else None)
        claims.same(where, "of", row["of"], run.manifest.get("total_steps"))
        claims.same(where, "sessions", row["sessions"], len(run.manifest["sessions"]))
        claims.same(where, "train loss", row["train loss"], train[-1] if train else None)
        claims.same(where, "best eval", row["best eval"], min(evaluated) if evaluated else None)


def _lines(path: Path) -> Iterable[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
