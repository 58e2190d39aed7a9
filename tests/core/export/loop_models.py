"""Small modules with loops over time and branches on values, as people write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Looped(nn.Module):
    """What the modules below have in common."""

    def __init__(self, vocab_size: int = 96, d_model: int = 8) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.cell = nn.GRUCell(d_model, d_model)
        self.upper_cell = nn.GRUCell(d_model, d_model)
        self.mix = nn.Linear(d_model, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.run(self.tokens(input_ids)))

    def run(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Appending(Looped):
    def run(self, x):
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            states.append(state)
        return torch.stack(states, dim=1)


class Writing(Looped):
    def run(self, x):
        (batch, length, d_model), state = x.shape, None
        written = torch.zeros(batch, length, d_model)
        for t in range(length):
            state = self.mix(x[:, t, :]) if state is None else torch.tanh(self.mix(state) + x[:, t, :])
            written[:, t, :] = state
        return written


class FirstStep(Looped):
    def run(self, x):
        states, total = [], 0
        for t in range(x.size(1)):
            if t == 0:
                state = self.mix(x[:, t])
            else:
                state = torch.tanh(self.mix(state) + x[:, t - 1])
            total += state.mean()
            states += [state.unsqueeze(1)]
        return torch.cat(states, dim=1) + total


class Reading(Looped):
    """Each position is computed from what was written before; there may be nothing to do."""

    def run(self, x):
        written = torch.zeros_like(x)
        written[:, 0] = x[:, 0]
        for t in range(1, x.shape[1]):
            written[:, t] = 0.5 * written[:, t - 1] + self.mix(x[:, t])
        return written


class Layers(Looped):
    def run(self, x):
        states, tops = [torch.zeros_like(x[:, 0]) for _ in range(2)], []
        for x_t in x.unbind(1):
            for level, cell in enumerate((self.cell, self.upper_cell)):
                states[level] = x_t = cell(x_t, states[level])
            tops.append(x_t)
        return torch.stack(tops, 1)


class Backwards(Looped):
    def run(self, x):
        state, states, others = torch.zeros_like(x[:, 0]), [], []
        for t in range(x.shape[1] - 1, -1, -1):
            state = self.cell(x[:, t], state)
            states.append(state)
        for _, (a, b) in enumerate(zip(x.unbind(dim=1), self.mix(x).unbind(dim=1), strict=True)):
            others.append(a * b)
        return torch.stack(states[::-1], 1) + torch.stack(others, 1)


class Windows(Looped):
    def run(self, x):
        padded = F.pad(x, (0, 0, 2, 0))
        return torch.stack([padded[:, t : t + 3].mean(1) + self.mix(x[:, t]) for t in range(x.shape[1])], 1)


class Padding(Looped):
    """Pads to blocks of 8, and not where nothing is missing."""

    def run(self, x):
        length = x.size(1)
        if length % 8 != 0:
            missing = 8 - length % 8
            x = F.pad(x, (0, 0, 0, missing))
        x = self.mix(x.reshape(x.size(0), -1, 8, x.size(2)).cumsum(2)).flatten(1, 2)
        return x[:, :-missing] if length % 8 != 0 else x


class Experts(Looped):
    """A mixture of experts that skips those that nothing is for."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])

    def run(self, x):
        rows = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(rows).softmax(-1).topk(2, -1)
        result, mask = torch.zeros_like(rows), F.one_hot(chosen, 4).permute(2, 1, 0)
        hit = (mask.sum((-1, -2)) > 0).nonzero()
        for expert in hit:
            place, row = torch.where(mask[expert].squeeze(0))
            value = self.experts[expert](rows[row]) * weights[row, place, None]
            result.index_add_(0, row, value)
        return result.view_as(x)


LOOPS = (Appending, Writing, FirstStep, Reading, Layers, Backwards, Windows, Padding, Experts)


class Flagged(Looped):
    """Does something else for a token that is rare."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids)
        if (input_ids == 95).any():
            x = 2 * x
        return self.head(x)


class Halting(Looped):
    """Stops when its input says so, after as many rounds for all inputs that are tried."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids)
        for level in range(4):
            x = torch.tanh(self.mix(x))
            if (input_ids == 95).any() or level == 2:
                break
        return self.head(x)
