"""The project's pipelines by name."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from transformer_foundry.core.system.process import is_main_process, is_only_process
from transformer_foundry.pipelines import comparison, data_engineering, deployment, training, tuning, validation
from transformer_foundry.pipelines.stages import stage

__all__ = ["register_pipelines"]


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; each contains the stages that it needs, which reuse what is up to date.

    ``--namespaces`` or ``--tags`` with the name of a stage runs that stage alone.
    """
    checked = stage("validation", validation.create_pipeline())
    prepared = stage("data_engineering", data_engineering.create_pipeline())
    trained = stage("training", training.create_pipeline())
    compared = stage("comparison", comparison.create_pipeline())
    tuned = stage("tuning", tuning.create_pipeline())
    deployed = stage("deployment", deployment.create_pipeline())
    if not is_only_process():
        alone = {"validation": checked, "data_engineering": prepared, "comparison": compared, "tuning": tuned}
        return alone | _of_several_processes(trained, deployed)
    upstream = checked + prepared
    return {
        "__default__": upstream + trained + deployed,
        "validation": checked,
        "data_engineering": prepared,
        "training": upstream + trained,
        "comparison": upstream + compared,
        "tuning": upstream + tuned,
        "deployment": upstream + trained + deployed,
    }


def _of_several_processes(trained: Pipeline, deployed: Pipeline) -> dict[str, Pipeline]:
    """Return the training of the processes that torchrun starts: the first one also evaluates and draws.

    What they read is made before, by one process: several would write the same files at once.
    """
    if not is_main_process():
        trained, deployed = trained.filter(node_names=["train_model"]), Pipeline([])
    return {"__default__": trained + deployed, "training": trained, "deployment": trained + deployed}
