"""Whether every tensor of a source and of a target is accounted for: ``python -m tests.benchmarks.weight_transfer``.

Pairs of the bundled models (three kinds), tied and untied, another head, another vocabulary, another width; what is
refused must be refused with both shapes. The Hub is tested in
``tests/core/training/pretrained/test_initial_weights.py``. Seconds.
"""

import itertools
from pathlib import Path

import torch

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.models import adapt, load_model, read_export
from transformer_foundry.core.training import transfer_weights
from transformer_foundry.core.training.checkpointing.state import capture_model
from transformer_foundry.core.training.pretrained.source import WeightSource

EXPORTS = Path(__file__).parents[2] / "data" / "01_raw" / "exports"


class Classifier(torch.nn.Module):
    """The body of the bundled BERT under a head for three classes."""

    def __init__(self, body):
        super().__init__()
        for name, child in body.named_children():
            if name != "lm_head":
                self.add_module(name, child)
        self.classifier = torch.nn.Linear(128, 3)

    def forward(self, input_ids):
        return self.classifier(self.token_embedding(input_ids).mean(1))


def untie(adapter):
    for name, module in adapter.model.named_modules():
        if name.endswith("lm_head"):
            module.weight = torch.nn.Parameter(module.weight.detach().clone() + 1)
    return adapter


def make_models():
    """Return (label, adapter) of every model that is tried."""
    for name in ("gpt", "bert", "t5"):
        export = read_export(EXPORTS / name)
        yield name, load_model(export)
        yield f"{name} untied", untie(load_model(export))
        yield f"{name} vocabulary 600", load_model(export, overrides={"vocab_size": 600})
        yield f"{name} width 64", load_model(export, overrides={"d_model": 64})
    body = load_model(read_export(EXPORTS / "bert")).model
    yield "bert classifier", adapt(Classifier(body), {"vocab_size": 512}, task="sequence_classification")


def is_accounted(transfer, source, target):
    """Whether each name of the target is loaded or new, and each of the source loaded or unused, and none both."""
    ours, theirs = set(target.model.state_dict()), set(source.tensors)
    loaded, new, unused = map(set, (transfer.loaded, transfer.new, transfer.unused))
    state = target.model.state_dict()
    kept = loaded & theirs - unused
    values = all(torch.equal(state[name], source.tensors[name]) for name in kept)
    return loaded | new == ours and not loaded & new and kept | unused == theirs and values


def main():
    pairs = accounted = refused = 0
    models, targets = dict(make_models()), dict(make_models())
    names = list(models)
    for theirs, ours in itertools.product(names, names):
        source_of, target = models[theirs], targets[ours]
        contract = source_of.contract
        source = WeightSource(theirs, theirs, "", capture_model(source_of.model), contract.kind, contract.task)
        pairs += 1
        try:
            accounted += is_accounted(transfer_weights(target, source), source, target)
        except CheckpointError as err:
            refused += 1
            accounted += "is of" in err.problem or "are of" in err.problem or "there, (" in err.problem
    print(f"{pairs} pairs: {accounted} accounted for ({refused} of them refused with the kinds or both shapes)")


if __name__ == "__main__":
    main()
