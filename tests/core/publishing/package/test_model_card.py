"""What the card says when not everything went well, and the metadata the Hub reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.publishing.packaging import EVALUATION, PROFILE, RUN
from tests.loopback.hub_cards import card_errors, card_metadata
from transformer_foundry.core.export.formats.table import FORMAT_FILES
from transformer_foundry.core.publishing import DeploymentOptions
from transformer_foundry.core.publishing.package.model_card import make_card

MANIFEST: dict[str, Any] = {
    "model": {
        "name": "Tiny",
        "kind": "encoder-only",
        "task": "sequence_classification",
        "parameter_count": 1234,
        "identity": "0" * 64,
        "contract": {"num_labels": 3, "output_size": 3, "max_length": 24, "vocab_size": 96},
    },
    "training": {"step": None, "options": {}},
    "data": PROFILE,
    "evaluation": EVALUATION,
    "validation": {"status": "pass", "problems": []},
    "inputs": [{"name": "input_ids"}, {"name": "attention_mask"}],
    "formats": [{"format": "onnx", "status": "failed", "stage": "export", "reason": "a | b"}],
    "prompt": {"text": "w5 w6", "input_ids": [5, 6]},
    "parts": [],
    "environment": {"python": "3.11", "packages": {"torch": "2.13.0"}},
}


def card(options: dict[str, Any] | None = None, **changes: Any) -> str:
    return make_card(MANIFEST | changes, {}, DeploymentOptions(**options or {}))


def test_a_format_that_is_missing_is_explained() -> None:
    text = card()
    assert "- There is no onnx file: a \\| b." in text
    assert "| onnx | not shipped |  |  | a \\| b |" in text
    assert "onnx" not in card_metadata(text)["tags"]


def test_an_untrained_model_without_evaluation_says_so() -> None:
    text = card(evaluation={})
    assert "This model was not evaluated." in text
    assert "the model was not trained" in text
    assert "model-index" not in card_metadata(text)
    assert card_errors(text) == []


def test_the_language_no_is_not_read_as_false() -> None:
    text = card({"language": "no"})
    assert card_metadata(text)["language"] == "no"
    assert card_errors(text) == []


@pytest.mark.parametrize(
    ("source", "datasets"),
    [("alice/poems", ["alice/poems"]), ("built-in text of Python", None), ("corpora/poems", None)],
)
def test_only_a_dataset_of_the_hub_is_listed(
    source: str, datasets: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpora" / "poems").mkdir(parents=True)
    text = card(data=PROFILE | {"source": source})
    assert card_metadata(text).get("datasets") == datasets
    assert card_errors(text) == []


def test_the_parameters_of_training_are_listed() -> None:
    training = {
        "step": 3,
        "total_steps": 4,
        "tokens_seen": 5000,
        "precision": "fp32",
        "options": RUN["parameters"]["training"],
    }
    text = card(training=training)
    assert "Weights of step 3 of 4, 5,000 tokens seen" in text
    assert "| `learning_rate` | `0.001` |" in text


def test_a_parameter_of_training_that_has_no_effect_is_not_listed() -> None:
    values = {"optimizer": "adamw", "momentum": 0.95, "beta1": 0.9, "lr_scheduler_type": "cosine", "decay_ratio": 0.2}
    text = card(training={"step": None, "options": values})
    assert "`beta1`" in text
    assert "`momentum`" not in text
    assert "`decay_ratio`" not in text


def test_a_variant_that_changes_next_to_nothing_is_not_better_by_minus_zero() -> None:
    entry = {"format": "onnx-fp16", "status": "verified", "file": "model.fp16.onnx", "max_abs_error": 0.0, "shapes": [],
             "judged_by": "perplexity on rows of the test split", "relative_change": -0.00001}  # fmt: skip
    text = card(formats=[entry])
    assert "perplexity on rows of the test split: +0.00%, 1 % worse is allowed" in text


def test_the_card_names_the_address_of_the_run_only_if_others_can_see_it(tmp_path: Path) -> None:
    from transformer_foundry.core.publishing.package.manifest import describe_training, tracking_url

    assert tracking_url(tmp_path) is None
    for url, kept in (
        ("http://localhost:8080/r", None),
        ("https://wandb.ai/a/b/runs/c", "https://wandb.ai/a/b/runs/c"),
    ):
        (tmp_path / "tracking.json").write_text(json.dumps({"run_id": "c", "url": url}))
        assert tracking_url(tmp_path) == kept
    training = describe_training(None, {"tracking_url": kept})
    assert f"Curves and settings of the run: {kept}" in card(training=training)


def test_a_package_that_transformers_loads_says_so_to_the_hub() -> None:
    entry = {"format": "transformers", "status": "verified", "file": "modeling_foundry.py", "max_abs_error": 0.0,
             "tolerance": 1e-4, "shapes": [], "auto_class": "AutoModelForSequenceClassification"}  # fmt: skip
    text = card(formats=[entry])
    assert (card_metadata(text)["library_name"], card_metadata(card())["library_name"]) == ("transformers", "pytorch")
    assert 'AutoModelForSequenceClassification.from_pretrained("."' in text
    assert card_errors(text) == []


def test_a_package_with_a_page_is_a_static_space_too() -> None:
    made = [{"part": name, "status": "made"} for name in ("inference", "server", "page")]
    text = card(parts=made)
    assert card_errors(text) == []
    assert (card_metadata(text)["sdk"], card_metadata(text)["app_file"]) == ("static", "index.html")
    assert all(command in text for command in ("python inference.py", "python server.py", "python -m http.server"))
    assert "sdk" not in card_metadata(card(parts=[{"part": "page", "status": "left out", "reason": "npm is missing"}]))


@pytest.mark.parametrize("name", FORMAT_FILES)
def test_a_verified_file_of_each_format_has_a_snippet(name: str) -> None:
    entry = {
        "format": name,
        "status": "verified",
        "file": FORMAT_FILES[name],
        "sha256": "0" * 64,
        "size_bytes": 1,
        "max_abs_error": 0.0,
        "tolerance": 1e-4,
        "shapes": [{"batch": 2, "length": 3}],
    }
    with_file, without = card(formats=[entry]), card(formats=[])
    assert with_file.count("```python") == without.count("```python") + 1
