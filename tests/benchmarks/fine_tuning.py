"""Whether a classifier that begins with a masked language model beats one from scratch, at equal steps.

``python -m tests.benchmarks.fine_tuning [--seeds 5] [--pretraining 3000] [--steps 300]`` takes about two CPU minutes on
one thread. A small BERT learns to fill in letters of 30,000 names of characters; then it learns to tell six
categories from 1,200 of them, beside the same model with weights of its own. Losses and accuracies are of the test
split.
"""

import argparse

import torch

from tests.benchmarks.unicode_names import make_splits, named_characters
from transformer_foundry.core.evaluation import evaluate
from transformer_foundry.core.models import adapt
from transformer_foundry.core.studies.comparison.confidence import mean_interval
from transformer_foundry.core.studies.comparison.reference_models import build_reference
from transformer_foundry.core.training import TrainingOptions, fit, transfer_weights
from transformer_foundry.core.training.checkpointing.state import capture_model
from transformer_foundry.core.training.pretrained.source import WeightSource


def make_adapter(splits, seed):
    model = build_reference("bert", splits, parameter_count=150_000, layers=2, seed=seed)
    return adapt(model, model.config.to_dict(), task=splits.task)


def train(adapter, splits, steps, seed, rate):
    options = TrainingOptions(max_steps=steps, seed=seed, device="cpu", eval_steps=None, num_samples=0, save_steps=None,
                              learning_rate=rate)  # fmt: skip
    for _ in fit(adapter, splits, options):
        pass
    return adapter


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pretraining", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = make_splits("masked_lm", named_characters(1, 30_000))
    body = train(make_adapter(text, 0), text, arguments.pretraining, 0, 2e-3)
    source = WeightSource("mlm", "masked model", "", capture_model(body.model), kind="encoder-only", task="masked_lm")
    print(
        f"masked model: {arguments.pretraining} steps, test {evaluate(body, text, 'test')['loss']:.3f} nats", flush=True
    )
    gains = []
    for seed in range(arguments.seeds):
        splits = make_splits("sequence_classification", named_characters(100 + seed, 1500))
        found = {}
        for name in ("scratch", "fine-tuned"):
            adapter = make_adapter(splits, seed)
            if name == "fine-tuned":
                transfer = transfer_weights(adapter, source)
            found[name] = evaluate(train(adapter, splits, arguments.steps, seed, 1e-3), splits, "test")
        gains.append(found["scratch"]["loss"] - found["fine-tuned"]["loss"])
        print(f"seed {seed}: " + ", ".join(f"{name} loss {value['loss']:.3f} accuracy {value['accuracy']:.3f}"
              for name, value in found.items()), flush=True)  # fmt: skip
    print(f"tensors: {len(transfer.loaded)} loaded, {len(transfer.new)} new, {len(transfer.unused)} unused")
    mean, half = mean_interval(gains)
    print(f"fine-tuning is {mean:.3f} +- {half or 0:.3f} nats better (95 %, {len(gains)} seeds, "
          f"better in {sum(gain > 0 for gain in gains)})")  # fmt: skip


if __name__ == "__main__":
    main()
