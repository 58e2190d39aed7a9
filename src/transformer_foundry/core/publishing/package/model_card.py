"""Model card of a package: ``README.md`` with the metadata that the Hub reads and a text for readers.

The text is the template ``model_card.md.jinja``; this module prepares its values.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.text import format_change, markdown_text, one_line
from transformer_foundry.core.export.formats.table import TRANSFORMERS_FORMAT
from transformer_foundry.core.models.options import TEXT_TASKS
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.core.training.options import options_in_effect

__all__ = ["make_card"]

_TEMPLATE = "model_card.md.jinja"
# The Hub has dropped the task text2text-generation: sequence-to-sequence models are listed as text-generation.
_PIPELINE_TAGS = {
    "causal_lm": "text-generation",
    "masked_lm": "fill-mask",
    "seq2seq_lm": "text-generation",
    **dict.fromkeys(TEXT_TASKS, "text-classification"),
    "token_classification": "token-classification",
}
_TASKS = {
    "causal_lm": "continues text, one token after another",
    "masked_lm": "fills in hidden tokens of a text",
    "seq2seq_lm": "turns one text into another",
    "sequence_classification": "gives a text one of {classes} labels",
    "multi_label_classification": "gives a text any of {classes} labels",
    "regression": "gives a text a number",
    "token_classification": "gives each token of a text one of {classes} labels",
}
_LOSS_UNITS = {"regression": "variances of the training numbers", "multi_label_classification": "nats per label"}
_BUILT_IN = "built-in"
_IDS_SHOWN = 8


def make_card(manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]], options: DeploymentOptions) -> str:
    """Return the card of a package.

    Args:
        manifest: Content of ``manifest.json``, without the files.
        files: File name -> ``sha256``, ``size_bytes``.
        options: License and language.
    """
    import jinja2

    # The card is Markdown of trusted parts, not HTML: escaping would change the code in it.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # nosec B701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"thousands": "{:,}".format, "short": _short, "change": format_change}
    shown = _shown(manifest)
    contract = manifest["model"]["contract"]
    splits = {name: _finite(manifest["evaluation"].get(name) or {}) for name in ("validation", "test")}
    classes = contract["num_labels"] or contract["output_size"]
    return environment.get_template(_TEMPLATE).render(
        shown,
        metadata=_metadata(manifest, options),
        contract=shown["model"]["contract"],
        task=_TASKS[manifest["model"]["task"]].format(classes=classes),
        loss_unit=_LOSS_UNITS.get(manifest["model"]["task"], "nats per target token"),
        is_trained=manifest["training"]["step"] is not None,
        training_options=options_in_effect(shown["training"]["options"]),
        **splits,
        metric_names=[name for name in {**splits["validation"], **splits["test"]} if name != "targets"],
        comparisons=shown["evaluation"].get("comparisons", []),
        problems=shown["validation"]["problems"],
        verified=_verified(shown),
        runtimes=manifest.get("runtimes", []),
        call=_example_call(manifest),
        request=_example_request(manifest),
        files=files,
    )


def _shown(value: Any) -> Any:
    """Return the values of a manifest as Markdown shows them: names and messages may come from anyone."""
    if isinstance(value, Mapping):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return markdown_text(value) if isinstance(value, str) else value


def _metadata(manifest: Mapping[str, Any], options: DeploymentOptions) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    model, dataset = manifest["model"], one_line(manifest["data"].get("source") or _BUILT_IN)
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
    ]
    formats = [entry["format"] for entry in _verified(manifest)]
    data = ModelCardData(
        license=options.license,
        language=options.language,
        library_name="transformers" if TRANSFORMERS_FORMAT in formats else "pytorch",
        pipeline_tag=_PIPELINE_TAGS[model["task"]],
        tags=["transformer-foundry", "transformer-builder", model["kind"], *formats],
        datasets=[dataset] if _is_hub_dataset(dataset) else None,
        metrics=list(metrics) or None,
        model_name=one_line(model["name"]),
        eval_results=results or None,
        **_space_settings(manifest),
    )
    return str(data.to_yaml())


def _space_settings(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return what makes the folder a static Space if it has a page; a model repository ignores it."""
    has_page = any(part["part"] == "page" and part["status"] == "made" for part in manifest["parts"])
    return {"sdk": "static", "app_file": "index.html"} if has_page else {}


def _is_hub_dataset(name: str) -> bool:
    # A local folder may have the name of a data set of the Hub.
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]*\w", name) is not None and not Path(name).exists()


def _best_split(evaluation: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    for split in ("test", "validation"):
        if metrics := _finite(evaluation.get(split) or {}):
            return split, {name: value for name, value in metrics.items() if name != "targets"}
    return "validation", {}


def _finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _verified(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in manifest["formats"] if entry["status"] == "verified"]


def _example_call(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the Python code that makes the inputs of one call, and that names them in the call."""
    names = [item["name"] for item in manifest["inputs"]]
    ids = manifest["prompt"]["input_ids"][:_IDS_SHOWN]
    values = {name: [[1] * len(ids)] if name.endswith("mask") else [ids] for name in names}
    return {
        "tensors": "\n".join(f"{name} = torch.tensor({value})" for name, value in values.items()),
        "arrays": "\n".join(f"{name} = np.array({value}, dtype=np.int64)" for name, value in values.items()),
        "named": ", ".join(f"{name}={name}" for name in names),
        "positional": ", ".join(names),
        "feed": "{" + ", ".join(f'"{name}": {name}' for name in names) + "}",
    }


def _example_request(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return ``url`` and ``body`` (quoted for a shell) of a request to the package's server."""
    task, prompt = manifest["model"]["task"], manifest["prompt"]["text"]
    writes = task in ("causal_lm", "seq2seq_lm")
    text = "A text with [MASK]." if task == "masked_lm" else prompt
    pair = manifest["prompt"].get("pair")
    body = {"text": text} if writes else {"texts": [text if pair is None else [text, pair]]}
    url = f"http://127.0.0.1:8000/{'generate' if writes else 'predict'}"
    return {"url": url, "body": shlex.quote(json.dumps(body))}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else ""
