"""A training run of made-up records, saved through the real dataset and shown to hooks as Kedro does."""

import dataclasses
import functools
from types import SimpleNamespace

import pluggy
import torch
from kedro.framework.hooks import specs
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
        self._events = pluggy.PluginManager("kedro")
        for kinds in (specs.KedroContextSpecs, specs.PipelineSpecs, specs.DatasetSpecs):
            self._events.add_hookspecs(kinds)
        for hook in hooks:
            self._events.register(hook)
        self.parameters = {"data_dir": str(data_dir), "run": {"name": name}, **(sections or {})}
        self.files = {}
        self.catalog = DataCatalog({"training_run": self.dataset, "model_package": MemoryDataset()})

    def begin(self, inputs=(), outputs=("training_run",)):
        """What happens before the first node of a pipeline with these inputs and outputs."""
        config = {"parameters": self.parameters, "catalog": self.files}
        self._events.hook.after_context_created(context=SimpleNamespace(config_loader=config))
        pipeline = SimpleNamespace(
            inputs=lambda: set(inputs), all_outputs=lambda: set(outputs), datasets=lambda: {*inputs, *outputs}
        )
        self._events.hook.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=self.catalog)

    def read(self, dataset_name, data):
        """A node loads a dataset."""
        self._events.hook.after_dataset_loaded(dataset_name=dataset_name, data=data, node=None)

    def show(self, dataset_name, data):
        """A node has saved a dataset."""
        self._events.hook.after_dataset_saved(dataset_name=dataset_name, data=data, node=None)

    def save(self, record):
        """Save a record of training, wait until it is durable, and show it."""
        self.dataset.save(record)
        self.dataset.wait()
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
        """What happens after the last node."""
        self._events.hook.after_pipeline_run(run_params={}, run_result={}, pipeline=None, catalog=self.catalog)

    def fail(self, error=None):
        """What happens when a node has raised."""
        arguments = {"error": error or ValueError(), "run_params": {}, "pipeline": None, "catalog": self.catalog}
        self._events.hook.on_pipeline_error(**arguments)


def make_checkpoint(step, size=8):
    """A checkpoint as ``fit`` makes it, but for its step and its weights, which are all ``step``."""
    real = _real_checkpoint()
    loop = dataclasses.replace(real.state.loop, step=step, best_step=None)
    weights = {"weight": torch.full((size,), float(step))}
    return dataclasses.replace(real, step=step, state=dataclasses.replace(real.state, model=weights, loop=loop))


@functools.cache
def _real_checkpoint():
    options = make_options(max_steps=1)
    return next(record for record in fit(make_model(), make_splits(), options) if isinstance(record, Checkpoint))


def weight_of(folder):
    """The value of the weights of a generation."""
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")["weight"][0].item()
