"""How many of the wrong labels that were planted in the data lie in the top decile of loss.

``python -m tests.benchmarks.label_errors [--seeds 3] [--steps 2500]`` takes about ten CPU minutes on one thread: 5 %
of the labels of 3,000 names of characters are another category; a small BERT is trained on them and looks at its own
training split.
"""

import argparse
import random

import numpy as np
import torch

from tests.benchmarks.fine_tuning import make_adapter, train
from tests.benchmarks.unicode_names import CATEGORIES, make_splits, named_characters
from transformer_foundry.core.evaluation.error_analysis import predict_examples
from transformer_foundry.core.system.precision import choose_precision

PLANTED, TOP = 0.05, 0.1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(arguments.seeds):
        pairs, stream = named_characters(seed, 3000), random.Random(seed)
        wrong = set(stream.sample(range(len(pairs) * 8 // 10), int(PLANTED * len(pairs) * 8 // 10)))
        pairs = [(row, (label + stream.randrange(1, len(CATEGORIES))) % len(CATEGORIES) if at in wrong else label)
                 for at, (row, label) in enumerate(pairs)]  # fmt: skip
        splits = make_splits("sequence_classification", pairs)
        adapter = train(make_adapter(splits, seed), splits, arguments.steps, seed, 1e-3)
        found = predict_examples(adapter, splits, "train", batch_size=64, precision=choose_precision("cpu", "fp32"))
        top = found.rows[np.argsort(-found.losses)[: int(TOP * len(found.rows))]]
        share = len(wrong & set(top.tolist())) / len(wrong)
        print(f"seed {seed}: {share:.1%} of {len(wrong)} planted errors in the top decile of {len(found.rows)}, "
              f"accuracy {found.accuracies.mean():.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
