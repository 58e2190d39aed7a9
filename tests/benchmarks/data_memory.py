"""Peak memory of a whole preparation (read, plan, fit a tokenizer, tokenise, pack, baselines, profile) by size of text.

python -m tests.benchmarks.data_memory [MEGABYTES ...]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CHILD = "--child"


def prepare(file: str, folder: str) -> None:
    """Prepare and print seconds and peak memory; in a process of its own."""
    from tests.benchmarks.data_samples import contract
    from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, profile_splits, read_corpus

    options, model = DataOptions(source=file), contract()
    corpus = read_corpus(options, "causal_lm")
    tokenizer = fit_tokenizer(corpus, model, options)
    splits = prepare_splits(corpus, tokenizer, model, options, folder)
    profile_splits(splits, tokenizer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{peak:9.0f} {time.process_time():9.0f} {splits.train.documents:10d} {splits.train.target_count:12d}")


def main() -> None:
    """Print a line for each size."""
    if _CHILD in sys.argv:
        return prepare(*sys.argv[-2:])
    from tests.benchmarks.data_samples import write_jsonl

    print("      MB  peak MiB     CPU s  documents      targets")
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    for megabytes in [int(value) for value in sys.argv[1:]] or [50, 200]:
        with tempfile.TemporaryDirectory() as folder:
            file = write_jsonl(Path(folder) / "text.jsonl", megabytes * 10**6)
            command = [sys.executable, "-m", "tests.benchmarks.data_memory", _CHILD, str(file), f"{folder}/tokens"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        print(f"{megabytes:8d} {done.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    main()
