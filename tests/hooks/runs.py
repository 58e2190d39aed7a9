"""A training run of made-up records, saved through the real dataset and shown to hooks as Kedro does."""

from types import SimpleNamespace

import torch
from kedro.io import DataCatalog, MemoryDataset

from transformer_foundry.core.training import Checkpoint, Progress, Started
from transformer_foundry.core.training.optimizers import OptimizerState
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.randomness import capture_random
from transformer_foundry.core.training.state import Counters, TrainingState
from transformer_foundry.datasets.training_run import TrainingRunDataset


class Run:
    """Saves records into ``<data_dir>/06_models/<name>`` and tells ``hooks`` of each."""

    def __init__(self, data_dir, *hooks, name="gpt", sections=None, keep=2, total_steps=100):
        self.data_dir, self.name, self.total_steps = data_dir, name, total_steps
        self.dataset = TrainingRunDataset(filepath=str(data_dir / "06_models" / name), keep=keep)
        self.folder = self.dataset.folder
        self.hooks = hooks
        self.parameters = {"data_dir": str(data_dir), "run": {"name": name}, **(sections or {})}
        self.catalog = DataCatalog({"training_run": self.dataset, "model_package": MemoryDataset()})

    def begin(self, datasets=("training_run",)):
        """What Kedro calls before the first node."""
        context = SimpleNamespace(config_loader={"parameters": self.parameters})
        pipeline = SimpleNamespace(datasets=lambda: set(datasets))
        for hook in self.hooks:
            hook.after_context_created(context=context)
        for hook in self.hooks:
            arguments = {"pipeline": pipeline, "catalog": self.catalog}
            names = hook.before_pipeline_run.__code__.co_varnames if hasattr(hook, "before_pipeline_run") else ()
            if names:
                hook.before_pipeline_run(**{name: value for name, value in arguments.items() if name in names})

    def show(self, dataset_name, data):
        """What Kedro calls after a dataset was saved."""
        for hook in self.hooks:
            hook.after_dataset_saved(dataset_name=dataset_name, data=data)

    def save(self, record):
        """Save a record of training and show it."""
        self.dataset.save(record)
        self.show("training_run", record)

    def start(self, step=0):
        self.save(
            Started(step, self.total_steps, step > 0, {"identity": {"model": "abc"}, "sessions": [{"step": step}]})
        )

    def progress(self, step, *samples, **metrics):
        values = {"train/loss": 4.0 - step / 100, **{name.replace("_", "/", 1): v for name, v in metrics.items()}}
        self.save(Progress(step, self.total_steps, values, samples))

    def checkpoint(self, step, size=8):
        self.save(make_checkpoint(step, size))

    def end(self):
        """What Kedro calls after the last node."""
        for hook in self.hooks:
            hook.after_pipeline_run()

    def fail(self):
        """What Kedro calls when a node raised."""
        for hook in self.hooks:
            hook.on_pipeline_error()


def make_checkpoint(step, size=8):
    """A checkpoint whose weights are all ``step``."""
    state = TrainingState(
        model={"weight": torch.full((size,), float(step))},
        optimizer=OptimizerState({"exp_avg/weight": torch.full((size,), float(step))}),
        scaler={},
        random=capture_random(torch.device("cpu")),
        counters=Counters(step=step),
        total_steps=100,
        steps_per_epoch=10.0,
        options={"save_total_limit": TrainingOptions().save_total_limit},
        identity={"model": "abc"},
    )
    return Checkpoint(step, 0, "steps", {}, state)


def weight_of(folder):
    """The value of the weights of a generation."""
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")["weight"][0].item()
