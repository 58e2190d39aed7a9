"""What a comparison says of a model against itself, and against its twin without residuals.

``python -m tests.benchmarks.model_comparison [--repeats 40] [--steps 40] [--twin-repeats 5] [--twin-steps 600]`` takes
about ten CPU minutes on one thread. Each repeat compares a small GPT (4 layers of 32) on names of characters with its
twin, or with itself and other initial weights: a few steps are enough for two draws to differ by chance.
"""

import argparse
import dataclasses
import logging

import torch
from torch import nn

from tests.benchmarks.unicode_names import LENGTH, VOCAB_SIZE, make_splits, named_characters
from transformer_foundry.core.models import adapt
from transformer_foundry.core.studies.comparison import BenchmarkOptions, Candidate, compare_models, summarize
from transformer_foundry.core.training import TrainingOptions


class SmallGpt(nn.Module):
    """Four blocks of attention and feed-forward; with residuals or without."""

    def __init__(self, has_residuals):
        super().__init__()
        self.has_residuals = has_residuals
        self.embedding, self.places = nn.Embedding(VOCAB_SIZE, 32), nn.Embedding(LENGTH, 32)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(8))
        self.attentions = nn.ModuleList(nn.MultiheadAttention(32, 2, batch_first=True) for _ in range(4))
        self.forwards = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(4))
        self.head = nn.Linear(32, VOCAB_SIZE)

    def forward(self, input_ids):
        length = input_ids.size(1)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        x = self.embedding(input_ids) + self.places(torch.arange(length))
        for index, (attention, forward) in enumerate(zip(self.attentions, self.forwards, strict=False)):
            kept = x if self.has_residuals else 0
            y = self.norms[2 * index](x)
            x = kept + attention(y, y, y, attn_mask=future, need_weights=False)[0]
            kept = x if self.has_residuals else 0
            x = kept + forward(self.norms[2 * index + 1](x))
        return self.head(x)


@dataclasses.dataclass(frozen=True)
class SmallCandidate(Candidate):
    has_residuals: bool = True

    def build(self, splits, seed):
        torch.manual_seed(seed)
        return adapt(SmallGpt(self.has_residuals), {"vocab_size": VOCAB_SIZE, "max_seq_len": LENGTH}, task="causal_lm")


def compare(candidates, splits, steps, seeds, repeats):
    """Return the verdicts on the second of two candidates, one for each repeat."""
    verdicts = []
    for repeat in range(repeats):
        training = TrainingOptions(max_steps=steps, device="cpu", seed=1000 * repeat, spike_threshold=0)
        options = BenchmarkOptions(models=[candidate.name for candidate in candidates], seeds=seeds)
        row = summarize(list(compare_models(candidates, splits, training, options)))[1]
        verdicts.append(row.verdict)
        print(f"{row.model}, {steps} steps, repeat {repeat}: {row.difference:+.4f} {row.verdict}", flush=True)
    return verdicts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--twin-repeats", type=int, default=5)
    parser.add_argument("--twin-steps", type=int, default=600)
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    packed = make_splits("masked_lm", named_characters(0, 6000))
    splits = dataclasses.replace(packed, task="causal_lm")
    gpt = SmallCandidate("gpt", "gpt")
    twin = SmallCandidate("twin", "twin", has_residuals=False)
    for other, wanted, steps, repeats in (
        (twin, "worse", given.twin_steps, given.twin_repeats),
        (SmallCandidate("itself", "gpt"), "no difference", given.steps, given.repeats),
    ):
        verdicts = compare([gpt, other], splits, steps, given.seeds, repeats)
        share = verdicts.count(wanted) / repeats
        print(f"{other.name}: {wanted!r} in {share:.0%} of {repeats} repeats of {given.seeds} seeds", flush=True)


if __name__ == "__main__":
    main()
