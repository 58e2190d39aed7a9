"""Check that the parts of a package belong together: weights, tokenizer, data, evaluation and report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.provenance import difference_text, has_changed, origin_differences, origin_of

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.models.source.read import ModelSource
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = ["require_consistent"]


def require_consistent(
    state: TrainingState,
    export: ModelSource,
    tokenizer: Tokenizer,
    data_profile: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    validation_report: Mapping[str, Any],
) -> None:
    """Refuse to package weights with parts of another model, other data or another step.

    Args:
        state: The checkpoint that is packaged.
        export: The model.
        tokenizer: The tokenizer that goes into the package.
        data_profile: What ``core.data.profile_splits`` found; ``fingerprint`` is compared.
        evaluation: What ``core.evaluation.assess.assess`` measured; what it is made from is compared, and its step
            where version 0.1.0 has left no more.
        validation_report: The report of the validation pipeline; ``model.identity`` is compared.

    Raises:
        DeploymentError: Naming the part that does not belong, and the pipelines to run again.
    """
    prepared, prepare = "was prepared with other settings after the training", "data_engineering,training"
    validated = validation_report.get("model", {}).get("identity")
    parts = (
        ("The data", data_profile.get("fingerprint"), state.identity.get("data"), prepared, prepare),
        ("The tokenizer", tokenizer.digest(), state.identity.get("tokenizer"), prepared, prepare),
        ("The evaluation", evaluation.get("step"), state.step, f"is not of step {state.step}", "training"),
        ("The validation report", validated, export.identity, "is about another model", "validation"),
    )
    for part, result, pipelines in (
        ("The profile of the data", data_profile, "data_engineering"),
        ("The evaluation", evaluation, "training"),
        ("The validation report", validation_report, "validation"),
    ):
        if has_changed(result):
            raise DeploymentError(
                f"{part} has changed since it was written: its digest is another one.",
                "Expected the content that the pipeline wrote.",
                f"Run 'kedro run --pipelines {pipelines}' with the settings of the run: it is made again.",
            )
    measured = origin_of(evaluation)
    if measured and origin_differences(state.made_from, measured):
        raise DeploymentError(
            f"The evaluation is not of this checkpoint: {difference_text(state.made_from, measured)}.",
            "All parts of a package must come from the same model, data and step.",
            "Run 'kedro run --pipelines training' with the settings of the run: it evaluates the best checkpoint.",
        )
    for part, found, expected, problem, pipelines in parts:
        # A checkpoint made through the library may lack the fingerprints of data and tokenizer.
        if expected is not None and found != expected:
            raise DeploymentError(
                f"{part} {problem} ({str(found)[:12]}, expected {str(expected)[:12]}).",
                "All parts of a package must come from the same model, data and step.",
                f"Run 'kedro run --pipelines {pipelines}' with the settings of the run, or start another run.name.",
            )
