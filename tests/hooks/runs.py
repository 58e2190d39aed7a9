"""A training run of made-up events, saved through the real dataset and announced to callbacks as Kedro does."""

import dataclasses
import functools
from types import SimpleNamespace

import pluggy
import torch
from kedro.framework.hooks import specs
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline, node

from tests.core.training.tiny import make_model, make_options, make_splits
from transformer_foundry.core.training import Checkpoint, Progress, Started, fit
from transformer_foundry.datasets.training_run import TrainingRunDataset
from transformer_foundry.hooks import KedroHooks


class Run:
    """Saves events into ``<data_dir>/06_models/<name>`` and announces each.

    Args:
        data_dir: Root of everything that is written.
        callbacks: As in ``settings.HOOKS``, outermost first.
        name: Name of the run.
        sections: More sections of the parameters.
        keep: Newest checkpoints that are kept.
        total_steps: Of the training.
        entry: Name of the run in the catalog.
    """

    def __init__(self, data_dir, *callbacks, name="gpt", sections=None, keep=2, total_steps=100, entry="training_run"):
        self.data_dir, self.name, self.total_steps, self.entry = data_dir, name, total_steps, entry
        self.dataset = TrainingRunDataset(filepath=str(data_dir / "06_models" / name), keep=keep)
        self.folder = self.dataset.folder
        self._events = pluggy.PluginManager("kedro")
        for kinds in (specs.KedroContextSpecs, specs.PipelineSpecs, specs.DatasetSpecs):
            self._events.add_hookspecs(kinds)
        self._events.register(KedroHooks(callbacks))
        self.parameters = {"data_dir": str(data_dir), "run": {"name": name}, **(sections or {})}
        self.files = {}
        self.catalog = DataCatalog({entry: self.dataset})

    def register(self, hooks):
        """Add a class of Kedro hooks."""
        self._events.register(hooks)

    def begin(self, inputs=(), outputs=None, **run_params):
        """What happens before the first node of a pipeline with these inputs and outputs."""
        context = SimpleNamespace(config_loader={"parameters": self.parameters}, project_path=None)
        self._events.hook.after_context_created(context=context)
        outputs = (self.entry,) if outputs is None else outputs
        pipeline = Pipeline([make_node(inputs, outputs)])
        for name in self.files:
            self.catalog[name] = AbstractDataset.from_config(name, self.files[name])
        self.files.clear()
        self._events.hook.before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=self.catalog)

    def read(self, dataset_name, data):
        """A node loads a dataset."""
        self._events.hook.after_dataset_loaded(dataset_name=dataset_name, data=data, node=make_node())

    def start_node(self, node):
        """A node starts."""
        arguments = {"node": node, "catalog": self.catalog, "inputs": {}}
        self._events.hook.before_node_run(**arguments, is_async=False, run_id="")

    def show(self, dataset_name, data, inputs=()):
        """A node with these inputs has saved a dataset."""
        node = make_node(inputs, (dataset_name,))
        self._events.hook.after_dataset_saved(dataset_name=dataset_name, data=data, node=node)

    def save(self, event):
        """Save an event of training, wait until it is durable, and announce it."""
        self.dataset.save(event)
        self.dataset.wait()
        self.show(self.entry, event)

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


def make_node(inputs=(), outputs=("nothing",)):
    """A node of a pipeline that is not run."""
    return node(lambda *_: None, sorted(inputs) or None, sorted(outputs) or "nothing", name="work")


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
