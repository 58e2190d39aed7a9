"""The adapter gives every model the same call."""

from __future__ import annotations

import pytest
import torch

from tests.core.models.samples import CAUSAL, NO_ARGUMENTS, PLAIN, a_forward, a_model, a_seq2seq

LOGITS = "logits = self.logits(input_ids, look_back(input_ids))\n"
OUTPUTS = {
    "tensor": ("return logits", "tensor", None),
    "tuple": ("return logits, self.states(input_ids), None", "tuple", 0),
    "tuple with the logits last": ("return self.states(input_ids), logits", "tuple", 1),
    "tuple of one": ("return (logits,)", "tuple", 0),
    "list": ("return [None, logits]", "tuple", 1),
    "loss first": ("return logits.mean(), logits", "tuple", 1),
    "mapping": ("return {'hidden': self.states(input_ids), 'logits': logits, 'loss': None}", "mapping", "logits"),
    "mapping without the name": ("return {'h': self.states(input_ids), 'z': logits}", "mapping", "z"),
    "ordered mapping": ("import collections\nreturn collections.OrderedDict(logits=logits)", "mapping", "logits"),
    "named tuple": ("return Named(None, logits)", "attribute", "logits"),
    "dataclass": ("return Data(logits=logits, cache=None)", "attribute", "logits"),
    "namespace": ("return SimpleNamespace(loss=None, logits=logits)", "attribute", "logits"),
}
CLASSES = (
    "class Named(NamedTuple):\n    cache: object\n    logits: torch.Tensor\n\n\n"
    "@dataclass\nclass Data:\n    cache: object\n    logits: torch.Tensor\n"
)


def with_output(body: str) -> str:
    lines = "\n".join(f"        {line}" for line in (LOGITS + body).splitlines())
    return a_model(NO_ARGUMENTS, f"    def forward(self, input_ids):\n{lines}\n", before=CLASSES)


@pytest.mark.parametrize("output", sorted(OUTPUTS))
def test_the_logits_are_found_in_every_form_of_output(make_model, output) -> None:
    body, form, key = OUTPUTS[output]
    adapter = make_model(with_output(body), PLAIN).eval()
    ids = torch.randint(40, (2, 9))
    assert (adapter.contract.output, adapter.contract.logits_key) == (form, key)
    model = adapter.model
    expected = model.logits(ids, torch.ones(9, 9, dtype=torch.bool).tril())
    assert torch.equal(adapter(ids), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (2, 3), (5, 7)])
@pytest.mark.parametrize("arguments", ["input_ids", "tokens", "x", "input_0_tokens", "idx, temperature=1.0"])
def test_the_call_is_the_same_for_every_argument_name(make_model, arguments, shape) -> None:
    name = arguments.split(",")[0]
    adapter = make_model(a_forward(arguments, f"return self.logits({name}, look_back({name}))"), PLAIN)
    ids = torch.randint(40, shape)
    logits = adapter(ids, torch.ones_like(ids))
    assert logits.shape == (*shape, 40)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.model.parameters())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("token_type_ids", "assert (token_type_ids == 0).all()\n"),
        ("position_ids", "assert (position_ids == torch.arange(input_ids.shape[1])).all()\n"),
        ("start_pos", "assert start_pos == 0\n"),
        ("use_cache=True", "assert use_cache is False\n"),
        ("labels", "assert (labels == input_ids).all()\n"),
    ],
)
def test_common_arguments_get_values(make_model, argument, value) -> None:
    adapter = make_model(
        a_forward(f"input_ids, {argument}", f"{value}return self.logits(input_ids, look_back(input_ids))"), PLAIN
    )
    assert adapter(torch.ones(2, 3, dtype=torch.int64)).shape == (2, 3, 40)


def test_an_encoder_decoder_takes_sequences_of_different_lengths(make_model) -> None:
    adapter = make_model(a_seq2seq("src, tgt", "        input_ids, target = src, tgt\n"), PLAIN)
    source, target = torch.randint(40, (2, 9)), torch.randint(40, (2, 4))
    assert adapter(source, None, target).shape == (2, 4, 40)


def test_the_seed_determines_the_weights(make_model) -> None:
    first, second, third = (make_model(CAUSAL, PLAIN, seed=seed).model.head.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_padded_batch_keeps_its_length_in_eval_mode(make_model) -> None:
    code = a_forward(
        "input_ids, attention_mask=None",
        "hide = None if attention_mask is None else attention_mask == 0\n"
        "return self.head(self.encoder(self.embed(input_ids), src_key_padding_mask=hide))",
    ).replace(
        "super().__init__(40, 16, 2, 2, 20)",
        "super().__init__(40, 16, 2, 2, 20)\n        "
        "self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)",
    )
    adapter = make_model(code, PLAIN).eval()
    ids, mask = torch.randint(40, (2, 8)), torch.ones(2, 8, dtype=torch.int64)
    mask[:, 5:] = 0
    with torch.no_grad():
        assert adapter(ids, mask).shape == (2, 8, 40)


def test_the_adapter_adds_one_prefix_to_the_state_of_the_model(make_model) -> None:
    adapter = make_model(CAUSAL, PLAIN)
    assert list(adapter.state_dict()) == [f"model.{name}" for name in adapter.model.state_dict()]
