"""Small drawings in many hands: the same parts written, named and ordered in different ways, and with one thing odd."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, WIDTH, HEADS, LONGEST = 50, 16, 4, 24


class OwnNorm(nn.Module):
    """Normalizations written out; ``kind`` is ``layer``, ``rms``, ``gemma`` or a faulty one."""

    def __init__(self, kind: str, width: int, eps: float, bias: bool = True) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        self.gain = nn.Parameter(torch.zeros(width) if kind == "gemma" else torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        gain = self.gain + 1 if self.kind == "gemma" else self.gain
        if self.kind in ("layer", "unbiased", "deviation"):
            x = x - x.mean(-1, keepdim=True)
        if self.kind == "unbiased":
            y = x / (x.var(-1, keepdim=True, unbiased=True) + self.eps).sqrt()
        elif self.kind == "deviation":
            y = x / (x.pow(2).mean(-1, keepdim=True).sqrt() + 0.1)
        elif self.kind == "length":
            y = x / x.norm(dim=-1, keepdim=True)
        else:
            y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return y * gain if self.shift is None else y * gain + self.shift


def norm(kind: str, width: int = WIDTH, eps: float = 1e-5) -> nn.Module:
    made = {
        "layer": lambda: nn.LayerNorm(width, eps),
        "layer-no-bias": lambda: nn.LayerNorm(width, eps, bias=False),
        "layer-bare": lambda: nn.LayerNorm(width, eps, elementwise_affine=False),
        "own-layer": lambda: OwnNorm("layer", width, eps),
        "rms": lambda: nn.RMSNorm(width, eps),
        "own-rms": lambda: OwnNorm("rms", width, eps, bias=False),
        "gemma": lambda: OwnNorm("gemma", width, eps, bias=False),
        "rms-bias": lambda: OwnNorm("rms", width, eps),
        "none": nn.Identity,
    }
    return made[kind]() if kind in made else OwnNorm(kind, width, eps)


def angles(length: int, size: int, theta: float, start: int = 0) -> Tensor:
    return torch.outer(torch.arange(start, start + length).float(), theta ** -(torch.arange(0, size, 2) / size))


def rotate(x: Tensor, style: str, theta: float, part: float = 1.0) -> Tensor:
    """Rotate (B, H, T, d) by positions, in one of the usual ways."""
    size = int(x.shape[-1] * part)
    x, rest = x[..., :size], x[..., size:]
    by = angles(x.shape[2], size, theta)
    cos, sin = by.cos(), by.sin()
    if style == "halves":
        cos, sin = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
        first, second = x.chunk(2, -1)
        y = x * cos + torch.cat([-second, first], -1) * sin
    elif style == "pairs":
        even, odd = x[..., ::2], x[..., 1::2]
        y = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
    elif style == "written":
        y = torch.empty_like(x)
        y[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        y[..., 1::2] = x[..., 1::2] * cos + x[..., 0::2] * sin
    elif style == "complex":
        turned = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2)) * torch.polar(torch.ones_like(by), by)
        y = torch.view_as_real(turned).flatten(-2).type_as(x)
    else:
        assert style == "mirror"  # the second half turns the other way: no rotation of pairs
        y = torch.cat([x.chunk(2, -1)[0] * cos, x.chunk(2, -1)[1] * sin], -1)
    return torch.cat([y, rest], -1)


class Mixer(nn.Module):
    """Attention; ``style`` is how its code is written."""

    def __init__(self, o: dict[str, Any]) -> None:
        super().__init__()
        self.o, self.n, self.g = o, HEADS, o.get("groups", HEADS)
        self.d = o.get("head_size", WIDTH // HEADS)
        bias, self.style = o.get("bias", True), o.get("style", "fused")
        if self.style == "torch":
            self.mha = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, bias=bias)
        elif self.style == "single":
            self.parts = nn.ModuleList(
                nn.ModuleList(nn.Linear(WIDTH, self.d, bias=bias) for _ in range(3)) for _ in range(HEADS)
            )
        elif self.style in ("fused", "by-head"):
            self.all = nn.Linear(WIDTH, 3 * self.n * self.d, bias=bias)
        else:
            sizes = (self.n, self.g, self.g)
            self.apart = nn.ModuleList(nn.Linear(WIDTH, size * self.d, bias=bias) for size in sizes)
        if self.style != "torch":
            self.merge = nn.Linear(self.n * self.d, WIDTH, bias=o.get("out_bias", bias))
        if o.get("head_norm"):
            self.tune = nn.ModuleList(norm(o["head_norm"], self.d) for _ in range(2))
        if o.get("temperature"):
            self.heat = nn.Parameter(torch.ones(HEADS, 1, 1))

    def mask(self, length: int) -> Tensor:
        allowed = torch.ones(length, length, dtype=torch.bool)
        if self.o.get("causal", True):
            allowed = allowed.tril()
        if self.o.get("window"):
            allowed = allowed.triu(1 - self.o["window"])
        return allowed

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, t, _ = x.shape
        if self.style == "fused":
            return tuple(self.all(x).view(b, t, 3, self.n, self.d).permute(2, 0, 3, 1, 4))
        if self.style == "by-head":
            return self.all(x).view(b, t, self.n, 3 * self.d).transpose(1, 2).chunk(3, -1)
        if self.style == "single":
            return tuple(torch.stack([parts[i](x) for parts in self.parts], 1) for i in range(3))
        return tuple(f(x).unflatten(-1, (-1, self.d)).transpose(1, 2) for f in self.apart)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        if self.style == "torch":
            return self.mha(x, x, x, attn_mask=~self.mask(t), need_weights=self.o.get("weights", False))[0]
        q, k, v = self.heads(x)
        if self.o.get("head_norm"):
            q, k = self.tune[0](q), self.tune[1](k)
        if self.o.get("rotary"):
            theta, part = self.o.get("theta", 10000.0), self.o.get("part", 1.0)
            q, k = (
                rotate(q, self.o["rotary"], theta, part),
                rotate(k, self.o.get("rotary_k", self.o["rotary"]), theta, part),
            )
            v = rotate(v, self.o["rotary"], theta, part) if self.o.get("rotate_values") else v
        if self.g != self.n:
            k, v = (self.spread(item) for item in (k, v))
        if self.o.get("scale"):
            q = q * self.o["scale"]
        y = self.attend(q, k, v, self.mask(t))
        if self.o.get("swap"):
            y = y.flip(1)
        return self.merge(y.transpose(1, 2).reshape(b, t, -1))

    def spread(self, x: Tensor) -> Tensor:
        times = self.n // self.g
        if self.o.get("tiled"):
            return x.repeat(1, times, 1, 1)
        if self.o.get("expanded"):
            return x[:, :, None].expand(-1, -1, times, -1, -1).reshape(x.shape[0], self.n, *x.shape[2:])
        return x.repeat_interleave(times, 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
        if self.o.get("kernel", "sdpa") == "sdpa":
            if self.o.get("causal", True) and not self.o.get("window"):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        if self.o["kernel"] == "einsum":
            scores = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(self.d)
        else:
            scores = q @ k.transpose(-2, -1) * self.d**-0.5
        if self.o.get("alibi"):
            t = torch.arange(q.shape[2])
            scores = scores - (t[:, None] - t).abs() * (0.5 ** torch.arange(1, HEADS + 1)).view(-1, 1, 1)
        if self.o.get("temperature"):
            scores = scores * self.heat
        if self.o.get("cap"):
            scores = self.o["cap"] * torch.tanh(scores / self.o["cap"])
        blocked = -1e9 if self.o.get("soft_mask") else float("-inf")
        scores = scores.masked_fill(~allowed, blocked)
        if self.o.get("sink"):
            weights = scores.exp() / (1 + scores.exp().sum(-1, keepdim=True))
        else:
            weights = scores.softmax(-1)
        return torch.einsum("bhts,bhsd->bhtd", weights, v) if self.o["kernel"] == "einsum" else weights @ v


ACTIVATIONS = {
    "gelu": F.gelu,
    "tanh-gelu": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": F.relu,
    "silu": lambda x: x * torch.sigmoid(x),
    "softsign": F.softsign,
    "squared": lambda x: F.relu(x) ** 2,
}


class Net(nn.Module):
    """Feed-forward network: plain, with a gate, or with a gate from one layer."""

    def __init__(self, o: dict[str, Any]) -> None:
        super().__init__()
        self.o, bias, size = o, o.get("net_bias", o.get("bias", True)), o.get("inner", 40)
        self.gated = o.get("gated", "")
        self.first = nn.Linear(WIDTH, size * (2 if self.gated == "one" else 1), bias=bias)
        self.second = nn.Linear(WIDTH, size, bias=bias) if self.gated == "two" else None
        self.last = nn.Linear(size, WIDTH, bias=bias)
        self.inner = norm(o["inner_norm"], size) if o.get("inner_norm") else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        act = ACTIVATIONS[self.o.get("act", "gelu")]
        if self.gated == "two":
            y = self.second(x) * act(self.first(x))
        elif self.gated == "one":
            a, b = self.first(x).chunk(2, -1)
            y = a * act(b) if self.o.get("gate_last") else act(a) * b
        else:
            y = act(self.first(x))
        return self.last(self.inner(y))


class Layer(nn.Module):
    def __init__(self, o: dict[str, Any], number: int) -> None:
        super().__init__()
        # Declared in an order of its own.
        self.net, self.mixer, self.o = Net(o), Mixer(o), o
        eps = o.get("eps", 1e-5) * (10.0 if o.get("uneven") and number else 1.0)
        self.b, self.a = norm(o.get("norm", "layer"), eps=eps), norm(o.get("norm", "layer"), eps=eps)
        self.gate = nn.Parameter(torch.ones(1)) if o.get("rezero") else 1.0
        self.rate = o.get("residual", 1.0)

    def forward(self, x: Tensor) -> Tensor:
        place = self.o.get("place", "pre")
        if place == "post":
            x = self.a(x + self.rate * self.mixer(x))
            return self.b(x + self.net(x))
        if place == "parallel":
            return x + self.mixer(self.a(x)) + self.net(self.b(x))
        if place == "shared":
            y = self.a(x)
            return x + self.mixer(y) + self.net(y)
        if place == "sandwich":
            x = x + self.a(self.mixer(self.a(x)))
            return x + self.b(self.net(self.b(x)))
        if place == "swapped":
            x = x + self.net(self.b(x))
            return x + self.mixer(self.a(x))
        x = x + self.gate * self.rate * self.mixer(self.a(x))
        return x + self.gate * self.net(x if self.o.get("bare_net") else self.b(x))


class Drawing(nn.Module):
    """A language model, or a masked one with ``causal=False``."""

    def __init__(self, **o: Any) -> None:
        super().__init__()
        self.o = o
        self.layers = nn.ModuleList(Layer(o, number) for number in range(2))
        self.last = norm(o.get("norm", "layer") if o.get("final", True) else "none", eps=o.get("eps", 1e-5))
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.start = norm(o["start_norm"], eps=o.get("eps", 1e-5)) if o.get("start_norm") else nn.Identity()
        where = o.get("positions", "learned")
        if where in ("learned", "offset", "reversed", "product"):
            self.places = nn.Embedding(LONGEST + 2, WIDTH)
        elif where == "parameter":
            self.places = nn.Parameter(torch.randn(1, LONGEST, WIDTH))
        elif where == "waves":
            by = angles(LONGEST, WIDTH, 10000.0)
            self.register_buffer("places", torch.stack([by.sin(), by.cos()], -1).flatten(1))
        if o.get("segment"):
            self.kinds = nn.Embedding(2, WIDTH)
        if o.get("transform"):
            self.dense = nn.Linear(WIDTH, WIDTH)
            self.tidy = norm(o["transform"], eps=o.get("eps", 1e-5))
        self.out = nn.Linear(VOCABULARY if o.get("double_head") else WIDTH, VOCABULARY, bias=o.get("head_bias", False))
        if o.get("double_head"):
            self.before = nn.Linear(WIDTH, VOCABULARY)
        if o.get("tied", True) and not o.get("double_head"):
            self.out.weight = self.words.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        t, where = input_ids.shape[1], self.o.get("positions", "learned")
        x = self.words(input_ids) * self.o.get("embedding_scale", 1.0)
        if where in ("learned", "offset", "product"):
            p = self.places(torch.arange(t) + (2 if where == "offset" else 0))
            x = x * p if where == "product" else x + p
        elif where == "reversed":
            x = x + self.places(torch.arange(t).flip(0))
        elif where in ("parameter", "waves"):
            x = x + (self.places[:, :t] if where == "parameter" else self.places[:t])
        if self.o.get("segment"):
            x = x + self.kinds(torch.zeros_like(input_ids))
        x = self.start(x)
        for layer in self.layers:
            x = layer(x)
        x = self.last(x)
        if self.o.get("transform"):
            x = self.tidy(ACTIVATIONS[self.o.get("act", "gelu")](self.dense(x)))
        x = self.out(F.gelu(self.before(x))) if self.o.get("double_head") else self.out(x)
        if self.o.get("logit_cap"):
            x = 30 * torch.tanh(x / 30)
        return x * self.o.get("logit_scale", 1.0)


# Options of the families, in the plainest hand.
GPT = {}
LLAMA = {"norm": "rms", "positions": "none", "rotary": "halves", "bias": False, "act": "silu", "gated": "two",
         "tied": False}  # fmt: skip
NEOX = {"place": "parallel", "positions": "none", "rotary": "halves", "tied": False}
BERT = {"place": "post", "causal": False, "start_norm": "layer", "final": False, "transform": "layer",
        "head_bias": True}  # fmt: skip
OPT = {"place": "post", "final": False, "act": "relu"}


def distances(queries: int, keys: int, count: int, both: bool) -> Tensor:
    """Return the bucket of each distance as in the paper of T5, for distances below 128."""
    far = torch.arange(keys)[None] - torch.arange(queries)[:, None]
    start = torch.zeros_like(far)
    if both:
        count //= 2
        start, far = (far > 0) * count, far.abs()
    else:
        far = (-far).clamp(min=0)
    exact = count // 2
    wide = exact + ((far.clamp(min=1) / exact).log() / math.log(128 / exact) * (count - exact)).long()
    return start + torch.where(far < exact, far, wide.clamp(max=count - 1))


class Cross(Mixer):
    """Attention to another sequence, or to the same one, with a bias on the scores."""

    def forward(self, x: Tensor, other: Tensor | None = None, bias: Tensor | None = None) -> Tensor:  # type: ignore[override]
        other = x if other is None else other
        q, k, v = (
            f(y).unflatten(-1, (-1, self.d)).transpose(1, 2) for f, y in zip(self.apart, (x, other, other), strict=True)
        )
        scores = q @ k.transpose(-1, -2) * (1.0 if self.o.get("raw") else self.d**-0.5)
        scores = scores if bias is None else scores + bias
        y = scores.softmax(-1) @ v
        return self.merge(y.transpose(1, 2).flatten(2))


class Side(nn.Module):
    """Encoder, or with ``cross`` decoder."""

    def __init__(self, o: dict[str, Any], words: nn.Embedding, cross: bool) -> None:
        super().__init__()
        self.o, self.cross, kind, count = o, cross, o.get("norm", "layer"), 3 if cross else 2
        eps = o.get("eps", 1e-5)
        self.words = words
        parts = [
            [Cross(o | {"style": "apart"}), *([Cross(o | {"style": "apart"})] if cross else []), Net(o)] for _ in "ab"
        ]
        self.parts = nn.ModuleList(nn.ModuleList(items) for items in parts)
        self.norms = nn.ModuleList(nn.ModuleList(norm(kind, eps=eps) for _ in range(count)) for _ in "ab")
        self.start = norm(kind, eps=eps) if o.get("start_norm") else nn.Identity()
        self.last = norm(kind, eps=eps) if o.get("final") else nn.Identity()
        if o.get("buckets"):
            self.far = nn.Embedding(o["buckets"], HEADS)
        elif o.get("positions", "learned") == "learned":
            self.places = nn.Embedding(LONGEST + 2, WIDTH)
        else:
            by = angles(LONGEST, WIDTH, 10000.0)
            self.register_buffer("waves", torch.cat([by.sin(), by.cos()], -1))

    def forward(self, ids: Tensor, memory: Tensor | None = None) -> Tensor:
        t = ids.shape[1]
        x = self.words(ids) * self.o.get("embedding_scale", 1.0)
        bias = (
            torch.zeros(t, t)
            if memory is None
            else torch.zeros(t, t).masked_fill(~torch.ones(t, t).tril().bool(), -1e9)
        )
        if self.o.get("buckets"):
            bias = bias + self.far(distances(t, t, self.o["buckets"], memory is None)).permute(2, 0, 1)
        else:
            x = x + (self.places(torch.arange(t)) if hasattr(self, "places") else self.waves[:t])
        x = self.start(x)
        for parts, norms in zip(self.parts, self.norms, strict=True):
            calls = [
                lambda y, f=parts[0]: f(y, None, bias),
                *([lambda y, f=parts[1]: f(y, memory)] if self.cross else []),
            ]
            for call, tidy in zip([*calls, parts[-1]], norms, strict=True):
                x = x + call(tidy(x)) if self.o.get("place", "post") == "pre" else tidy(x + call(x))
        return self.last(x)


class Pair(nn.Module):
    """An encoder-decoder with one embedding."""

    def __init__(self, **o: Any) -> None:
        super().__init__()
        self.o = o
        words = nn.Embedding(VOCABULARY, WIDTH)
        self.writer, self.reader = Side(o, words, True), Side(o, words, False)
        self.out = nn.Linear(WIDTH, VOCABULARY, bias=False)
        if o.get("tied", True):
            self.out.weight = words.weight

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
        x = self.writer(decoder_input_ids, self.reader(input_ids))
        return self.out(x * self.o.get("last_scale", 1.0))


BART = {"start_norm": True}
T5 = {"place": "pre", "norm": "rms", "final": True, "buckets": 16, "raw": True, "bias": False, "act": "relu",
      "tied": False}  # fmt: skip
