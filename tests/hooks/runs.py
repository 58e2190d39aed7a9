"""A training run of made-up records, saved through the real dataset and shown to hooks as Kedro does."""

import dataclasses
import functools
from types import SimpleNamespace

import torch
from kedro.io import DataCatalog, MemoryDataset

from tests.core.training.tiny import make_model, make_options, make_splits
from transformer_foundry.core.training import Checkpoint, Progress, Started, fit
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
    """A checkpoint as ``fit`` makes it, but for its step and its weights, which are all ``step``."""
    real = _real_checkpoint()
    counters = dataclasses.replace(real.state.counters, step=step, best_step=None)
    weights = {"weight": torch.full((size,), float(step))}
    return dataclasses.replace(real, step=step, state=dataclasses.replace(real.state, model=weights, counters=counters))


@functools.cache
def _real_checkpoint():
    options = make_options(max_steps=1)
    return next(record for record in fit(make_model(), make_splits(), options) if isinstance(record, Checkpoint))


def weight_of(folder):
    """The value of the weights of a generation."""
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")["weight"][0].item()
