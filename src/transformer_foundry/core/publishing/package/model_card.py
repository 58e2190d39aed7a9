"""The model card: ``README.md`` with the metadata that the Hub reads and a text that a person reads."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.export.names import TRANSFORMERS_FORMAT
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.core.publishing.package.snippets import snippets

__all__ = ["make_card"]

# The Hub has no task of its own for sequence-to-sequence models any more: text2text-generation became text-generation.
_PIPELINE_TAGS = {
    "causal_lm": "text-generation",
    "masked_lm": "fill-mask",
    "seq2seq_lm": "text-generation",
    "sequence_classification": "text-classification",
    "token_classification": "token-classification",
}
_TASKS = {
    "causal_lm": "continues text, one token after another",
    "masked_lm": "fills in hidden tokens of a text",
    "seq2seq_lm": "turns one text into another",
    "sequence_classification": "gives a text one of {classes} labels",
    "token_classification": "gives each token of a text one of {classes} labels",
}
_UNITS = {"loss": "nats per target token"}
_BUILT_IN = "built-in"


def make_card(manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]], options: DeploymentOptions) -> str:
    """Return the card of a package.

    Args:
        manifest: Content of ``manifest.json``, without the files.
        files: File name -> ``sha256``, ``size_bytes``.
        options: Licence and language.
    """
    sections = [
        _introduction(manifest),
        "## Results\n\n" + _results(manifest["evaluation"]),
        "## Use\n\n" + snippets(manifest),
        "## Training\n\n" + _training(manifest),
        "## Formats\n\n" + _formats(manifest),
        "## Limitations\n\n" + _limitations(manifest),
        "## Files\n\n" + _files(manifest, files),
    ]
    return f"---\n{_metadata(manifest, options)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(manifest: Mapping[str, Any], options: DeploymentOptions) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    model, dataset = manifest["model"], manifest["data"].get("source") or _BUILT_IN
    split, metrics = _best_split(manifest["evaluation"])
    results = [
        EvalResult(
            task_type=_PIPELINE_TAGS[model["task"]],
            dataset_type=dataset if _is_hub_dataset(dataset) else re.sub(r"[^\w.-]+", "-", dataset).strip("-"),
            dataset_name=dataset,
            dataset_split=split,
            metric_type=name,
            metric_value=value,
            metric_name=name.replace("_", " "),
        )
        for name, value in metrics.items()
        if name != "targets"
    ]
    formats = [entry["format"] for entry in manifest["formats"] if entry["status"] == "verified"]
    data = ModelCardData(
        license=options.license,
        language=options.language,
        library_name="transformers" if TRANSFORMERS_FORMAT in formats else "pytorch",
        pipeline_tag=_PIPELINE_TAGS[model["task"]],
        tags=["transformer-foundry", "transformer-builder", model["kind"], *formats],
        datasets=[dataset] if _is_hub_dataset(dataset) else None,
        metrics=[name for name in metrics if name != "targets"] or None,
        model_name=model["name"],
        eval_results=results or None,
        **_as_space(manifest),
    )
    return data.to_yaml()


def _as_space(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return what makes the folder a static Space too, if it has a page; to a repository of a model it says nothing."""
    has_page = any(part["part"] == "page" and part["status"] == "made" for part in manifest["parts"])
    return {"sdk": "static", "app_file": "index.html"} if has_page else {}


def _is_hub_dataset(name: str) -> bool:
    # A local folder may be called like a data set of the Hub.
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]*\w", name) is not None and not Path(name).exists()


def _best_split(evaluation: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    for split in ("test", "validation"):
        if metrics := _finite(evaluation.get(split) or {}):
            return split, metrics
    return "validation", {}


def _finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _introduction(manifest: Mapping[str, Any]) -> str:
    model = manifest["model"]
    contract = model["contract"]
    task = _TASKS[model["task"]].format(classes=contract["num_labels"] or contract["output_size"])
    made = "" if manifest["training"]["step"] is None else "trained, "
    article = "An" if model["kind"].startswith("e") else "A"
    longest = f"up to {contract['max_length']} tokens" if contract["max_length"] else "any number of tokens"
    return (
        f"# {model['name']}\n\n"
        f"{article} {model['kind']} transformer with {model['parameter_count']:,} parameters that {task}. It was drawn "
        f"in Transformer Builder and {made}exported and verified with Transformer Foundry.\n\n"
        f"It reads {longest} of a vocabulary of {contract['vocab_size']:,}."
    )


def _results(evaluation: Mapping[str, Any]) -> str:
    splits = {name: _finite(evaluation.get(name) or {}) for name in ("validation", "test")}
    names = [name for name in dict.fromkeys([*splits["validation"], *splits["test"]]) if name != "targets"]
    if not names:
        return "This model was not evaluated."
    rows = [[_metric(name), *(_number(splits[split].get(name)) for split in splits)] for name in names]
    parts = [_table(["metric", "validation", "test"], rows)]
    sentences = [item["sentence"] for item in evaluation.get("comparisons", [])]
    if sentences:
        parts.append("On the validation split, beside what needs no network:\n\n" + _bullets(sentences))
    return "\n\n".join(parts)


def _metric(name: str) -> str:
    words = name.replace("_", " ")
    return f"{words} ({_UNITS[name]})" if name in _UNITS else words


def _training(manifest: Mapping[str, Any]) -> str:
    data, training = manifest["data"], manifest["training"]
    lines = []
    if data.get("source"):
        sizes = [
            f"{split['tokens']:,} tokens in {split['documents']:,} documents for {name}"
            for name, split in data.get("splits", {}).items()
        ]
        lines.append(f"Data: {data['source']}" + (f": {', '.join(sizes)}." if sizes else "."))
    if data.get("fingerprint"):
        lines.append(f"Fingerprint of data, tokenizer and their settings: `{data['fingerprint']}`.")
    if training.get("tracking_url"):
        lines.append(f"Curves and settings of the run: {training['tracking_url']}")
    if training["step"] is None:
        lines.append("The weights are those of initialisation: the model was not trained.")
    else:
        lines.append(
            f"Weights of step {training['step']:,} of {training['total_steps']:,}, {training['tokens_seen']:,} tokens "
            f"seen, computed in {training['precision']}."
        )
    options = [[f"`{name}`", f"`{value}`"] for name, value in training["options"].items() if value is not None]
    table = "\n\n" + _table(["parameter", "value"], options) if options else ""
    return _bullets(lines) + table


def _formats(manifest: Mapping[str, Any]) -> str:
    rows = []
    for entry in manifest["formats"]:
        if entry["status"] == "verified":
            shapes = ", ".join(f"{row['batch']}x{row['length']}" for row in entry["shapes"])
            file = f"`{entry['file']}`" + (f" (opset {entry['opset']})" if "opset" in entry else "")
            rows.append([entry["format"], file, f"{entry['max_abs_error']:.2g}", _allowed(entry), shapes])
        else:
            rows.append([entry["format"], "not shipped", "", "", entry["reason"].replace("|", "/")])
    text = (
        "Each file was loaded by a fresh process and its logits compared with the model's, at every batch x length "
        "shown; rows end in padding, which is left out of the comparison."
    )
    notes = [f"{entry['format']}: {entry['note']}." for entry in manifest["formats"] if "note" in entry]
    table = _table(["format", "file", "largest error", "allowed", "batch x length"], rows)
    return f"{text}\n\n{table}" + ("\n\n" + _bullets(notes) if notes else "")


def _allowed(entry: Mapping[str, Any]) -> str:
    if "tolerance" in entry:
        return f"{entry['tolerance']:.2g}"
    return f"{entry['judged_by']}: {entry['relative_change']:+.2%}, 1 % worse is allowed"


def _limitations(manifest: Mapping[str, Any]) -> str:
    contract, training = manifest["model"]["contract"], manifest["training"]
    lines = ["It knows what its training text says and nothing else; it was not examined for bias or harmful output."]
    if contract["max_length"]:
        lines.append(f"Inputs of more than {contract['max_length']} tokens are refused or cut.")
    if training["step"] is None:
        lines.append("It was not trained.")
    lines += [item["message"] for item in manifest["data"].get("findings", []) if item["severity"] != "info"]
    lines += [f"Found by the checks: {item['message']}" for item in manifest["validation"]["problems"]]
    lines += [
        f"There is no {entry['format']} file: {entry['reason']}."
        for entry in manifest["formats"]
        if entry["status"] != "verified"
    ]
    return _bullets(lines)


def _files(manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[f"`{name}`", f"{item['size_bytes']:,}", f"`{item['sha256']}`"] for name, item in files.items()]
    versions = manifest["environment"]["packages"]
    made = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformer-foundry") if name in versions)
    identity = f"Model code and configuration (identity): `{manifest['model']['identity']}`."
    return f"{identity} Made with Python {manifest['environment']['python']}, {made}.\n\n" + _table(
        ["file", "bytes", "sha256"], rows
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
