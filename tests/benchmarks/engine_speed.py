"""Speed of ``fit`` beside a hand-written loop, HF Trainer, Lightning and an accelerate loop.

All train the same model from the same weights on the same batches. On a CPU they take turns step by step, each in a
thread of its own that waits while the others compute, so that whatever else the machine does falls on all alike; what
is compared is the CPU time of those threads. On a GPU, in bf16, each has a process of its own, for some set how torch
computes for the whole process; ten steps are timed by the clock, once the GPU has done them.
``python -m tests.benchmarks.engine_speed [--device cuda]`` prints the table.

Trainers that are not installed are left out (``pip install -e ".[bench]"``).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.core.training.tiny import SPECIAL
from transformer_foundry.core.data.dataloading.batches import training_batches
from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenized.memmap import RaggedArray
from transformer_foundry.core.training import TrainingOptions, fit

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.1


@dataclass(frozen=True)
class Size:
    """A model and its batches: what one step costs."""

    name: str
    width: int
    layers: int
    length: int
    rows: int
    vocab_size: int
    steps: int
    device: str = "cpu"

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of a forward pass by hand: bf16 on a GPU."""
        on_gpu = self.device == "cuda"
        return torch.autocast("cuda", dtype=torch.bfloat16) if on_gpu else contextlib.nullcontext()


SIZES = {
    "cpu": (
        Size("small steps", width=32, layers=2, length=16, rows=4, vocab_size=256, steps=300),
        Size("large steps", width=192, layers=4, length=128, rows=8, vocab_size=2048, steps=60),
    ),
    "cuda": (
        Size("25M", width=384, layers=8, length=512, rows=32, vocab_size=16384, steps=70, device="cuda"),
        Size("as GPT-2 small", width=768, layers=12, length=1024, rows=16, vocab_size=50257, steps=70, device="cuda"),
    ),
}

BLOCK = 10
"""Steps that are timed together: each block has one line of metrics."""


class Model(nn.Module):
    """A GPT of torch's own layers."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(size.vocab_size, size.width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(size.width, 4, 4 * size.width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(size.layers)
        )
        self.head = nn.Linear(size.width, size.vocab_size, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(input_ids.size(1), device=input_ids.device)
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x, src_mask=mask, is_causal=True)
        logits = self.head(x)
        return logits if labels is None else {"loss": causal_loss(logits, labels), "logits": logits}


def causal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of the next token."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def make_splits(size: Size) -> TokenSplits:
    """Random tokens: what is measured does not depend on what they say."""
    random = np.random.default_rng(0)
    rows = [random.integers(4, size.vocab_size, size.length).tolist() for _ in range(size.rows * 32)]
    splits = {name: TokenSplit(name, RaggedArray.from_rows(rows)) for name in ("train", "validation", "test")}
    return TokenSplits(
        **splits,
        task="causal_lm",
        vocab_size=size.vocab_size,
        max_length=size.length,
        fingerprint="0" * 64,
        special=SPECIAL,
    )


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that all but Foundry are given: the same as its own."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True)


def batches_of(size: Size) -> Iterator[dict[str, Tensor]]:
    """The batches of all loops but Foundry's: made by the same loader, as each step needs them."""
    batches = training_batches(make_splits(size), batch_size=size.rows, seed=0)
    for position in range(size.steps):
        yield {name: tensor.to(size.device, non_blocking=True) for name, tensor in batches.batch(position).items()}


def by_hand(size: Size, model: Model) -> None:
    """Forward, backward, clip, step: nothing else."""
    optimizer = make_optimizer(model)
    model.train()
    for batch in batches_of(size):
        optimizer.zero_grad(set_to_none=True)
        with size.autocast():
            loss = causal_loss(model(batch["input_ids"]), batch["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def by_foundry(size: Size, model: Model) -> None:
    """``fit`` with metrics every ten steps."""
    options = TrainingOptions(
        max_steps=size.steps,
        per_device_train_batch_size=size.rows,
        learning_rate=LEARNING_RATE,
        warmup_ratio=0.0,
        lr_scheduler_type="constant",
        weight_decay=WEIGHT_DECAY,
        eval_steps=None,
        save_steps=None,
        save_minutes=None,
        save_epochs=False,
        logging_steps=10,
        device=size.device,
    )
    splits = make_splits(size)
    for record in fit(model, TokenSplits(**{**vars(splits), "validation": _empty(splits)}), options):
        if record.step >= size.steps:
            break


def _empty(splits: TokenSplits) -> TokenSplit:
    return TokenSplit("validation", RaggedArray.from_rows([]))


def by_accelerate(size: Size, model: Model) -> None:
    """The loop of accelerate's documentation."""
    from accelerate import Accelerator

    on_gpu = size.device == "cuda"
    accelerator = Accelerator(cpu=not on_gpu, mixed_precision="bf16" if on_gpu else "no")
    prepared, optimizer = accelerator.prepare(model, make_optimizer(model))
    prepared.train()
    for batch in batches_of(size):
        optimizer.zero_grad()
        with accelerator.autocast():
            loss = causal_loss(prepared(batch["input_ids"]), batch["labels"])
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
        optimizer.step()


def by_trainer(size: Size, model: Model) -> None:
    """transformers' Trainer, logging every ten steps."""
    from transformers import Trainer, TrainingArguments

    batches = batches_of(dataclasses.replace(size, device="cpu"))
    rows = [{name: tensor[row] for name, tensor in batch.items()} for batch in batches for row in range(size.rows)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=size.steps,
            per_device_train_batch_size=size.rows,
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            use_cpu=size.device == "cpu",
            bf16=size.device == "cuda",
            disable_tqdm=True,
            max_grad_norm=1.0,
        )
        # Its last word is printed, not logged.
        with contextlib.redirect_stdout(io.StringIO()):
            Trainer(model, arguments, train_dataset=rows, optimizers=(make_optimizer(model), None)).train()


def by_lightning(size: Size, model: Model) -> None:
    """Lightning's Trainer, logging every ten steps to a csv file."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
            loss = causal_loss(self.model(batch["input_ids"]), batch["labels"])
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make_optimizer(self.model)

    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_steps=size.steps,
            accelerator=size.device,
            devices=1,
            precision="bf16-mixed" if size.device == "cuda" else "32-true",
            log_every_n_steps=10,
            gradient_clip_val=1.0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        batches = list(batches_of(dataclasses.replace(size, device="cpu")))
        trainer.fit(Module(), torch.utils.data.DataLoader(batches, batch_size=None))


LOOPS: dict[str, tuple[Callable[[Size, Model], None], str | None]] = {
    "by hand": (by_hand, None),
    "Foundry": (by_foundry, None),
    "accelerate": (by_accelerate, "accelerate"),
    "HF Trainer": (by_trainer, "accelerate"),
    "Lightning": (by_lightning, "lightning"),
}


class Turns:
    """Lets one of several threads compute at a time, from one forward pass to another.

    Args:
        names: Of the loops.
        steps: Of a turn.
        clock: Tells seconds once all that the thread has begun is done.
    """

    def __init__(self, names: list[str], steps: int, clock: Callable[[], float]) -> None:
        self.steps, self._clock = steps, clock
        self._turns = {name: threading.Semaphore(0) for name in names}
        self._done = threading.Semaphore(0)
        self._passes = dict.fromkeys(names, -1)
        self._began: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self.errors: list[BaseException] = []
        self._finished: set[str] = set()

    def run(self, loops: dict[str, Callable[[Size, Model], None]], size: Size) -> None:
        """Run all loops to their end, a step of each in turn."""
        threads = {name: threading.Thread(target=self._run, args=(name, loop, size)) for name, loop in loops.items()}
        for thread in threads.values():
            thread.start()
        while len(self._finished) < len(threads):
            for name in threads.keys() - self._finished:
                self._turns[name].release()
                self._done.acquire()
        if self.errors:
            raise self.errors[0]

    def _run(self, name: str, loop: Callable[[Size, Model], None], size: Size) -> None:
        self._turns[name].acquire()
        try:
            model = Model(size).to(size.device)
            model.register_forward_pre_hook(lambda *_: self._step(name))
            loop(size, model)
        except BaseException as err:
            self.errors.append(err)
        finally:
            self._finished.add(name)
            self._done.release()

    def _step(self, name: str) -> None:
        """Before a forward pass: end the turn if it is over, and wait for the next."""
        self._passes[name] += 1
        if self._passes[name] % self.steps:
            return
        if name in self._began:
            self.seconds[name].append(self._clock() - self._began[name])
        self._done.release()
        self._turns[name].acquire()
        self._began[name] = self._clock()


def measure(size: Size) -> dict[str, float]:
    """Return the seconds of a step of each loop: the median over blocks of ten steps, the first left out."""
    loops = [name for name, (_, needs) in LOOPS.items() if needs is None or importlib.util.find_spec(needs)]
    if size.device == "cpu":
        return take_turns(size, loops)
    return {name: seconds for loop in loops for name, seconds in in_a_process(size, loop).items()}


def take_turns(size: Size, names: list[str]) -> dict[str, float]:
    """Return the seconds of a step of the loops ``names``, measured in this process."""
    turns = Turns(names, *((BLOCK, gpu_clock) if size.device == "cuda" else (1, time.thread_time)))
    turns.run({name: LOOPS[name][0] for name in names}, size)
    in_block = BLOCK // turns.steps
    return {
        name: statistics.median(
            sum(times[start : start + in_block]) / BLOCK
            for start in range(in_block, len(times) - in_block + 1, in_block)
        )
        for name, times in turns.seconds.items()
    }


def in_a_process(size: Size, loop: str) -> dict[str, float]:
    """Return what ``take_turns`` does for one loop in a new process; nothing, and say why, where it does not run."""
    command = [sys.executable, "-m", "tests.benchmarks.engine_speed", "--device", size.device]
    answer = subprocess.run([*command, "--only", size.name, loop], capture_output=True, text=True)
    if answer.returncode:
        print(f"{loop} does not run here: {answer.stderr.strip().splitlines()[-1][:200]}")
        return {}
    return json.loads(answer.stdout.splitlines()[-1])


def gpu_clock() -> float:
    """Seconds by the clock, once the GPU has done all that was begun."""
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Print milliseconds a step, the overhead over the loop by hand, and the throughput as a share of its."""
    import logging

    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--only", nargs=2, metavar=("SIZE", "LOOP"), help="measure one loop and print JSON")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if arguments.only:
        size = next(size for size in SIZES[arguments.device] if size.name == arguments.only[0])
        print(json.dumps(take_turns(size, arguments.only[1:])))
        return
    for size in SIZES[arguments.device]:
        found = measure(size)
        print(f"\n{size.name}: {size.layers} layers of {size.width}, {size.rows} x {size.length} tokens, {place(size)}")
        print(f"{'loop':12} {'ms a step':>10} {'over by hand':>13} {'throughput':>11}")
        for name, seconds in found.items():
            base = found["by hand"]
            print(f"{name:12} {1e3 * seconds:10.2f} {1e3 * (seconds - base):+10.2f} ms {base / seconds:11.3f}")


def place(size: Size) -> str:
    """Say where the loops computed."""
    return "one thread" if size.device == "cpu" else f"{torch.cuda.get_device_name()}, bf16"


if __name__ == "__main__":
    main()
