"""The files of a small run that has been through every pipeline, written by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from transformer_foundry.core.files.folder_manifest import write_folder_manifest
from transformer_foundry.core.files.provenance import digest_of, with_origin
from transformer_foundry.core.studies.tuning.results.summary import trials_digest
from transformer_foundry.core.training.checkpointing.directory import checkpoint_origin

FINDING = {"severity": "warning", "message": "Dropout is 0.9.", "where": "model.py:7", "fix": "Use 0.1.", "check": "x"}
ROWS = [
    {"step": step, "train/loss": 6 - step / 20, "train/learning_rate": 1e-3, "train/memory_gb": 0.5,
     "train/tokens_per_second": 1000.0 + step, "train/tokens_seen": 100.0 * step}
    for step in range(1, 41)
]  # fmt: skip
ROWS[19] |= {"eval/loss": 5.2, "eval/seconds": 0.1}
ROWS[39] |= {"eval/loss": 4.2, "eval/seconds": 0.1}
PARITY = {"format": "onnx", "status": "verified", "max_abs_error": 3e-6, "tolerance": 1e-4, "shapes": [{}, {}],
          "size_bytes": 3888244}  # fmt: skip

FILES: dict[str, Any] = {
    "08_reporting/gpt/validation_report.json": {
        "status": "fail", "kind": "decoder-only", "findings": [FINDING], "seconds": 1.5, "model": {"name": "TinyGPT"},
    },
    "08_reporting/gpt/data_profile.json": {
        "source": "built-in text", "task": "causal_lm", "max_length": 128, "texts": {"documents": 402},
        "tokenizer": {"algorithm": "bpe", "vocab_size": 512}, "baselines": {"unigram_loss": 5.3, "bigram_loss": 3.5},
        "splits": {"train": {"rows": 1231, "tokens": 156305}, "test": {"rows": 73, "tokens": 9223}},
        "examples": [{"input": "To be", "expected": "or not"}], "findings": [],
    },
    "08_reporting/gpt/evaluation.json": {
        "step": 40, "validation": {"loss": 4.2, "perplexity": 66.7}, "test": {"loss": 4.3, "perplexity": 73.7},
        "comparisons": [{"is_beaten": True, "sentence": "loss 4.200 beats token frequencies (5.300)"}],
    },
    "08_reporting/gpt/comparison.json": {
        "models": [
            {"model": "gpt", "loss": 2.5, "loss_interval": 0.01, "difference": None, "verdict": "", "parameters": 900,
             "seeds": 3, "split": "test", "problem": ""},
            {"model": "llama", "loss": 2.4, "loss_interval": 0.02, "difference": -0.1, "difference_interval": 0.03,
             "verdict": "better", "parameters": 910, "seeds": 3, "split": "test", "problem": ""},
        ],
    },
    "08_reporting/gpt/error_analysis.json": {
        "task": "sequence_classification", "split": "validation", "examples": 20,
        "segments": [
            {"segment": "length", "value": "65 to 128", "examples": 12, "loss": 2.25, "is_weak": True},
            {"segment": "label", "value": "calm", "examples": 11, "loss": 0.5, "is_weak": False},
        ],
        "confusion": {"labels": ["joy", "fear"], "matrix": [[8, 2], [0, 10]]},
        "calibration": {"bins": [{"confidence": 0.34, "accuracy": 0.5, "targets": 4},
                                 {"confidence": 0.95, "accuracy": 1.0, "targets": 16}], "expected_error": 0.0711},
        "worst": [{"row": 3, "loss": 9.5, "text": "What a night", "expected": "joy", "predicted": "fear"}],
    },
    "08_reporting/gpt/samples.json": {"step": 40, "samples": ["To be >> or not to be"]},
    "08_reporting/gpt/search_comparison.json": {"verdict": "The winner beats the default configuration."},
    "08_reporting/gpt/trials.csv": "number,state,loss,steps,steps_trained,seconds,learning_rate,error\n"
    "0,complete,4.5,40,40,1.0,0.001,\n1,complete,4.4,40,40,1.0,0.0023,\n2,paused,5.0,10,10,1.0,0.1,\n",
    "06_models/gpt/manifest.json": {
        "total_steps": 40, "result": {"step": 40}, "seeds": {"training": 7}, "sessions": [{"started_at": "2026-01-01"}],
        "identity": {"model_code": "abc123"}, "parameters": {"training": {"max_steps": 40}}, "checkpoint_bytes": 1024,
        "environment": {"python": "3.11.7", "git_revision": "0123abc", "processor_count": 2, "packages": {"torch": "2"},
                        "command": ["kedro", "run"]},
    },
    "06_models/gpt/metrics.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "06_models/gpt/samples.jsonl": '{"step": 20, "samples": ["To be >> tbtbt"]}\n',
    "06_models/gpt/tuning/best_parameters.json": {"parameters": {"learning_rate": 0.0023}, "model_overrides": {}},
    "07_model_output/gpt/manifest.json": {"model": {"parameter_count": 875264}, "formats": [PARITY]},
    "07_model_output/gpt/README.md": "# gpt\n",
}  # fmt: skip
"""Path under the data folder -> content; what is no text is written as JSON."""


def write_run(data_dir: Path, files: dict[str, Any] | None = None) -> Path:
    """Write ``files``, all of :data:`FILES` by default, as made from one checkpoint, and return the data folder."""
    checkpoint = data_dir / "06_models/gpt/checkpoints/step-00000040"
    if not checkpoint.exists():
        write_checkpoint(checkpoint)
    origin = checkpoint_origin(checkpoint)
    files = FILES if files is None else files
    if isinstance(trials := files.get("08_reporting/gpt/trials.csv"), str) and trials:
        origin["trials"] = trials_digest(csv.DictReader(trials.splitlines()))
    if isinstance(evaluation := files.get("08_reporting/gpt/evaluation.json"), dict):
        origin["evaluation"] = digest_of(with_origin(evaluation, origin))
    for name, content in files.items():
        path = data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict) and not name.startswith("06_models/gpt/manifest"):
            known = {key: origin[key] for key in origin if key != "evaluation" or name.startswith("07")}
            content = with_origin(content, known)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return data_dir


def write_checkpoint(folder: Path, weights: bytes = b"weights") -> None:
    """Write what a report reads of a checkpoint: its manifest."""
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(weights)
    identity = {"model_code": "a" * 64, "config": "b" * 64, "data": "d" * 64, "tokenizer": "e" * 64}
    step = int(folder.name.removeprefix("step-"))
    write_folder_manifest(folder, {"step": step, "best_step": step, "identity": identity})


def with_every_text(value: Any, text: str) -> Any:
    """Return ``value`` with each text in it replaced by ``text`` at any depth, but for words that choose a branch."""
    kept = ("warning", "complete", "verified", "fail")
    if isinstance(value, dict):
        return {key: with_every_text(item, text) for key, item in value.items()} | {text: text}
    if isinstance(value, list):
        return [with_every_text(item, text) for item in value]
    return text if isinstance(value, str) and value not in kept else value
