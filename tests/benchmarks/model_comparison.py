"""What a comparison says of a model against itself, and against its twin without residuals.

``python -m tests.benchmarks.model_comparison [--repeats 20] [--seeds 3] [--steps 150]`` takes about ten CPU minutes
on one thread. Each repeat compares a small GPT (4 layers of 32) with itself, other initial weights, and with its twin,
on names of characters.
"""

import argparse
import dataclasses
import logging

import torch
from torch import nn

from tests.benchmarks.unicode_names import LENGTH, VOCAB_SIZE, make_splits, named_characters
from transformer_foundry.core.comparison import BenchmarkOptions, Member, compare_models, summarise
from transformer_foundry.core.exports import adapt
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
class SmallMember(Member):
    has_residuals: bool = True

    def build(self, splits, seed):
        torch.manual_seed(seed)
        return adapt(SmallGpt(self.has_residuals), {"vocab_size": VOCAB_SIZE, "max_seq_len": LENGTH}, task="causal_lm")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    packed = make_splits("masked_lm", named_characters(0, 6000))
    splits = dataclasses.replace(packed, task="causal_lm")
    members = [SmallMember("gpt", "gpt"), SmallMember("itself", "gpt"),
               SmallMember("twin", "twin", has_residuals=False)]  # fmt: skip
    verdicts = {"itself": [], "twin": []}
    for repeat in range(arguments.repeats):
        training = TrainingOptions(max_steps=arguments.steps, device="cpu", seed=1000 * repeat, spike_threshold=0)
        options = BenchmarkOptions(models=["gpt", "itself"], seeds=arguments.seeds)
        rows = {row["model"]: row for row in summarise(list(compare_models(members, splits, training, options)))}
        for name, found in verdicts.items():
            found.append(rows[name]["verdict"])
        print(f"repeat {repeat}: " + ", ".join(f"{name} {rows[name]['difference']:+.4f} {rows[name]['verdict']}"
              for name in verdicts), flush=True)  # fmt: skip
    for name, wanted in (("itself", "no difference"), ("twin", "worse")):
        share = verdicts[name].count(wanted) / arguments.repeats
        print(f"{name}: {wanted!r} in {share:.0%} of {arguments.repeats} repeats of {arguments.seeds} seeds")


if __name__ == "__main__":
    main()
