"""Small training problems of which ``search_make_table`` makes tables: a model, a text, an objective, a space.

All texts are on every machine that has Python, torch, numpy and transformers. The spaces differ on purpose: full grids
of four or five dimensions, with and without categories, and ``wide``, ten dimensions of which rows are drawn at random.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

VOCAB, MASK = 128, 1
"""Characters are ASCII; 0 starts a decoder, 1 hides what a model has to guess."""

MASKED_SHARE, MASKED_SPAN = 0.15, 3
FIRST_LABEL = ord("0")

Configuration = dict[str, Any]
Tensor = torch.Tensor


@dataclass(frozen=True)
class Problem:
    """What a table is made of.

    Attributes:
        space: Name -> type, choices or range, condition, as in ``tuning.space``.
        text: Makes the characters to train on.
        build: Configuration -> model.
        loss_of: (model, rows of characters, whether the model is trained, configuration) -> mean loss.
        n_rows: Configurations drawn at random; None takes the whole grid.
        length: Characters in a row that a model reads.
        is_labelled: Whether the text is a sequence of rows with one character more, the label first.
        steps: Optimizer steps of a training.
        every: Steps between two evaluations.
        n_held_out: Rows in an evaluation.
    """

    space: dict[str, dict[str, Any]]
    text: Callable[[], str]
    build: Callable[[Configuration], nn.Module]
    loss_of: Callable[[nn.Module, Tensor, bool, Configuration], Tensor]
    n_rows: int | None = None
    length: int = 40
    is_labelled: bool = False
    steps: int = 200
    every: int = 10
    n_held_out: int = 48

    def configurations(self) -> list[Configuration]:
        """Return the rows of the table."""
        found = self._grid() if self.n_rows is None else itertools.islice(self._drawn(), self.n_rows)
        return list(found)

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Return characters for training and for validation, 9 to 1."""
        raw = self.text().encode("ascii", "replace")
        tokens = torch.tensor(np.frombuffer(raw, dtype=np.uint8).astype(np.int64)).clamp_(max=VOCAB - 1)
        cut = int(0.9 * len(tokens))
        cut -= cut % self._stride
        return tokens[:cut], tokens[cut:]

    def last_row(self, tokens: Tensor) -> int:
        """Return the number of the last row of ``tokens``; a row begins at each character, or where the last ended."""
        return (len(tokens) - self.length - 2) // self._stride

    def rows_at(self, tokens: Tensor, numbers: Tensor) -> Tensor:
        """Return (n, length + 1) characters of the rows with ``numbers`` (n,)."""
        return tokens[numbers[:, None] * self._stride + torch.arange(self.length + 1)]

    @property
    def _stride(self) -> int:
        return self.length + 1 if self.is_labelled else 1

    def _grid(self) -> Iterator[Configuration]:
        for values in itertools.product(*(entry["choices"] for entry in self.space.values())):
            chosen = dict(zip(self.space, values, strict=True))
            row = self._applying(chosen)
            # Once, not once for each value of what does not apply.
            if all(name in row or chosen[name] == self.space[name]["choices"][0] for name in chosen):
                yield row

    def _drawn(self) -> Iterator[Configuration]:
        engine = torch.quasirandom.SobolEngine(len(self.space), scramble=True, seed=0)
        while True:
            (point,) = engine.draw(1, dtype=torch.float64).tolist()
            pairs = zip(self.space.items(), point, strict=True)
            yield self._applying({name: _value(entry, position) for (name, entry), position in pairs})

    def _applying(self, chosen: Configuration) -> Configuration:
        def applies(name: str) -> bool:
            return all(chosen[other] in values for other, values in self.space[name].get("when", {}).items())

        return {name: value for name, value in chosen.items() if applies(name)}


def _value(entry: dict[str, Any], position: float) -> Any:
    if entry["type"] == "categorical":
        return entry["choices"][min(int(position * len(entry["choices"])), len(entry["choices"]) - 1)]
    low, high = entry["low"], entry["high"]
    value = low * (high / low) ** position if entry.get("log") else low + position * (high - low)
    return round(value) if entry["type"] == "int" else value


class _Block(nn.Module):
    """Of the byte-level GPT, width 40."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(40), nn.LayerNorm(40)
        self.qkv, self.out = nn.Linear(40, 120, bias=False), nn.Linear(40, 40, bias=False)
        self.gate, self.up, self.down = nn.Linear(40, 96), nn.Linear(40, 96), nn.Linear(96, 40)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.before(x)).view(*x.shape[:2], 3, 4, 10).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        hidden = self.between(x)
        return x + self.down(functional.silu(self.gate(hidden)) * self.up(hidden))


class _Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, 40), nn.Embedding(40, 40)
        self.blocks = nn.Sequential(_Block(), _Block())
        self.norm = nn.LayerNorm(40)
        for parameter in (self.tokens.weight, self.positions.weight):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.blocks(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        return self.norm(hidden) @ self.tokens.weight.T


def _causal(model: nn.Module, rows: Tensor, training: bool, configuration: Configuration) -> Tensor:
    logits = model(rows[:, :-1])
    return functional.cross_entropy(getattr(logits, "logits", logits).flatten(0, 1), rows[:, 1:].flatten())


def _hidden(rows: Tensor, training: bool) -> Tensor:
    """Where characters are hidden: anew in each training step, the same in each evaluation."""
    generator = None if training else torch.Generator().manual_seed(0)
    starts = torch.rand(rows.shape, generator=generator) < MASKED_SHARE / MASKED_SPAN
    return functional.max_pool1d(starts.float()[:, None], MASKED_SPAN, 1, MASKED_SPAN // 2)[:, 0] > 0


def _classified(model: nn.Module, rows: Tensor, training: bool, configuration: Configuration) -> Tensor:
    logits = model(rows[:, 1:]).logits
    smoothing = configuration["label_smoothing"] if training else 0.0
    return functional.cross_entropy(logits, rows[:, 0] - FIRST_LABEL, label_smoothing=smoothing)


def _restored(model: nn.Module, rows: Tensor, training: bool, configuration: Configuration) -> Tensor:
    corrupted = rows.masked_fill(_hidden(rows, training), MASK)
    begun = functional.pad(rows[:, :-1], (1, 0))
    logits = model(input_ids=corrupted, decoder_input_ids=begun).logits
    smoothing = configuration["label_smoothing"] if training else 0.0
    return functional.cross_entropy(logits.flatten(0, 1), rows.flatten(), label_smoothing=smoothing)


def _topics_reversed() -> str:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics, key=lambda name: name[::-1]))


def _docstrings_of(package: Any) -> str:
    found = {getattr(getattr(package, name, None), "__doc__", None) for name in dir(package)}
    return "\n\n".join(sorted(text for text in found if isinstance(text, str)))


def _source_of_transformers() -> str:
    import transformers

    folder = Path(transformers.__file__).parent
    return "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))[:30])


def _sums() -> str:
    numbers = random.Random(0)
    pairs = [(numbers.randrange(100), numbers.randrange(100)) for _ in range(60_000)]
    return "".join(f"{one}+{other}={one + other}\n" for one, other in pairs)


def _labelled_rows() -> str:
    """Rows of 32 characters with the text they are from as their label, in no order."""
    texts = [_topics_reversed(), _docstrings_of(torch), _docstrings_of(np), _source_of_transformers(), _sums()]
    rows = [
        f"{label}{text[start : start + 32]}"
        for label, text in enumerate(texts)
        for start in range(0, min(map(len, texts)) - 32, 32)
    ]
    random.Random(0).shuffle(rows)
    return "".join(rows)


def _bert(configuration: Configuration) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        hidden_dropout_prob=configuration["dropout"],
        attention_probs_dropout_prob=configuration["dropout"],
        num_labels=5,
    )
    return BertForSequenceClassification(config)


def _t5(configuration: Configuration) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCAB,
        d_model=48,
        d_kv=12,
        num_heads=4,
        d_ff=128,
        num_layers=1,
        num_decoder_layers=1,
        dropout_rate=configuration["dropout"],
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def _llama(configuration: Configuration) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=40,
        intermediate_size=96,
        num_hidden_layers=configuration["model.num_layers"],
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _gpt2(configuration: Configuration) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout = configuration.get("dropout", 0.0)
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=40,
        n_layer=2,
        n_head=configuration.get("model.num_heads", 4),
        n_inner=configuration.get("model.dim_feedforward", 128),
        n_positions=64,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return GPT2LMHeadModel(config)


def _choices(*values: Any, **when: list[Any]) -> dict[str, Any]:
    return {"type": "categorical", "choices": list(values), **({"when": when} if when else {})}


def _rates(low: float, count: int) -> dict[str, Any]:
    return _choices(*(low * 2**index for index in range(count)))


PROBLEMS: dict[str, Problem] = {
    "schedules": Problem(
        {
            "learning_rate": _rates(4e-4, 7),
            "lr_scheduler_type": _choices("cosine", "linear", "constant"),
            "min_lr_ratio": _choices(0.0, 0.2, lr_scheduler_type=["cosine", "linear"]),
            "warmup_ratio": _choices(0.0, 0.1, 0.3),
            "per_device_train_batch_size": _choices(6, 12),
        },
        _topics_reversed,
        lambda configuration: _Gpt(),
        _causal,
        steps=160,
        every=8,
    ),
    "classifier": Problem(
        {
            "learning_rate": _rates(2e-4, 9),
            "label_smoothing": _choices(0.0, 0.1),
            "warmup_ratio": _choices(0.0, 0.1, 0.3),
            "dropout": _choices(0.0, 0.1),
            "per_device_train_batch_size": _choices(6, 12, 24),
        },
        _labelled_rows,
        _bert,
        _classified,
        length=32,
        is_labelled=True,
        n_held_out=256,
    ),
    "seq2seq": Problem(
        {
            "learning_rate": _rates(4e-4, 8),
            "label_smoothing": _choices(0.0, 0.05, 0.15),
            "warmup_ratio": _choices(0.0, 0.1, 0.3),
            "dropout": _choices(0.0, 0.1),
            "per_device_train_batch_size": _choices(8, 16),
        },
        lambda: _docstrings_of(np),
        _t5,
        _restored,
        length=31,
    ),
    "optimizers": Problem(
        {
            "optimizer": _choices("adamw", "sgd", "adafactor"),
            "learning_rate": _rates(4e-4, 9),
            "warmup_ratio": _choices(0.0, 0.1, 0.3),
            "model.num_layers": _choices(1, 2),
            "per_device_train_batch_size": _choices(6, 12),
        },
        _source_of_transformers,
        _llama,
        _causal,
    ),
    "sums": Problem(
        {
            "learning_rate": _rates(4e-4, 8),
            "weight_decay": _choices(0.0, 0.1, 1.0),
            "warmup_ratio": _choices(0.0, 0.05, 0.2),
            "model.num_heads": _choices(1, 4),
            "per_device_train_batch_size": _choices(8, 16),
        },
        _sums,
        _gpt2,
        _causal,
        length=30,
    ),
    "wide": Problem(
        {
            "learning_rate": {"type": "float", "low": 1e-4, "high": 0.05, "log": True},
            "weight_decay": {"type": "float", "low": 1e-3, "high": 3.0, "log": True},
            "warmup_ratio": {"type": "float", "low": 0.0, "high": 0.3},
            "adam_beta2": {"type": "float", "low": 0.9, "high": 0.999},
            "dropout": {"type": "float", "low": 0.0, "high": 0.3},
            "per_device_train_batch_size": {"type": "int", "low": 4, "high": 16, "log": True},
            "model.dim_feedforward": {"type": "int", "low": 32, "high": 256, "log": True},
            "optimizer": _choices("adamw", "rmsprop"),
            "lr_scheduler_type": _choices("cosine", "linear", "constant"),
            "min_lr_ratio": {
                "type": "float",
                "low": 0.0,
                "high": 0.3,
                "when": {"lr_scheduler_type": ["cosine", "linear"]},
            },
        },
        lambda: _docstrings_of(np) + _docstrings_of(np.ndarray),
        _gpt2,
        _causal,
        n_rows=128,
    ),
}


def train(problem: Problem, configuration: Configuration, training: Tensor, validation: Tensor) -> list[float]:
    """Return the validation loss after each ``every`` steps; infinite from where it is not a number."""
    torch.manual_seed(0)
    model, generator = problem.build(configuration), torch.Generator().manual_seed(1)
    optimizer = _optimizer(model, configuration)
    last = problem.last_row(validation)
    held_out = problem.rows_at(validation, torch.linspace(0, last, problem.n_held_out).long())
    losses = []
    for step in range(problem.steps):
        optimizer.param_groups[0]["lr"] = configuration["learning_rate"] * _rate_at(step, problem.steps, configuration)
        n_rows = configuration["per_device_train_batch_size"]
        rows = problem.rows_at(training, torch.randint(problem.last_row(training) + 1, (n_rows,), generator=generator))
        optimizer.zero_grad(set_to_none=True)
        problem.loss_of(model.train(), rows, True, configuration).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % problem.every == 0:
            with torch.no_grad():
                losses.append(problem.loss_of(model.eval(), held_out, False, configuration).item())
    return [loss if math.isfinite(loss) else math.inf for loss in losses]


def _optimizer(model: nn.Module, configuration: Configuration) -> torch.optim.Optimizer:
    name, decay = configuration.get("optimizer", "adamw"), configuration.get("weight_decay", 0.1)
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    if name == "adafactor":
        return torch.optim.Adafactor(model.parameters(), lr=1.0, weight_decay=decay)
    if name == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), lr=1.0, alpha=configuration["adam_beta2"], weight_decay=decay)
    betas = (0.9, configuration.get("adam_beta2", 0.97))
    return torch.optim.AdamW(model.parameters(), lr=1.0, betas=betas, weight_decay=decay, fused=True)


def _rate_at(step: int, steps: int, configuration: Configuration) -> float:
    """Learning rate of a step, as a share of the highest."""
    warmup = int(configuration["warmup_ratio"] * steps)
    if step < warmup:
        return (step + 1) / warmup
    kind = configuration.get("lr_scheduler_type", "cosine")
    if kind == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    least = configuration.get("min_lr_ratio", 0.0)
    decay = 1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return float(least + (1 - least) * decay)
