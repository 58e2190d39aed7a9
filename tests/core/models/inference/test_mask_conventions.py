"""The meaning of a mask is inferred by passing it; the adapter then hides padding with it."""

from __future__ import annotations

import pytest
import torch

from tests.core.models.samples import a_forward, a_seq2seq

PLAIN = {"vocab_size": 40, "max_seq_len": 20}
# What forward does with its mask -> the expected (meaning, type, dimensions).
USES = {
    "1 where real": ("seen = mask[:, None, None, :] != 0", ("real", "int64", 2)),
    "bool, True where real": (
        "seen = mask[:, None, None, :] & torch.ones_like(mask[:, None, None, :])",
        ("real", "bool", 2),
    ),
    "bool only, True where real": (
        "assert mask.dtype is torch.bool\nseen = mask[:, None, None, :]",
        ("real", "bool", 2),
    ),
    "float, 1 where real": (
        "assert mask.is_floating_point()\nseen = mask[:, None, None, :] > 0.5",
        ("real", "float32", 2),
    ),
    "True where padding": ("seen = ~mask[:, None, None, :]", ("padding", "bool", 2)),
    "1 where padding": (
        "assert mask.dtype is torch.int64\nseen = mask[:, None, None, :] == 0",
        ("padding", "int64", 2),
    ),
    "four dimensions": ("assert mask.dim() == 4\nseen = mask != 0", ("real", "int64", 4)),
    "four dimensions, padding": ("assert mask.dim() == 4\nseen = ~mask", ("padding", "bool", 4)),
    "three dimensions": ("assert mask.dim() == 3\nseen = mask.unsqueeze(1) != 0", ("real", "int64", 3)),
}


def an_encoder(use: str, name: str, default: str = "=None") -> str:
    lines = "\n".join(f"    {line}" for line in use.split("\n"))
    return a_forward(
        f"input_ids, {name}{default}",
        f"mask, seen = {name}, None\nif mask is not None:\n{lines}\nreturn self.logits(input_ids, seen)",
    )


def a_decoder(use: str, name: str) -> str:
    code = an_encoder(use, name)
    return code.replace(
        "self.logits(input_ids, seen)",
        "self.logits(input_ids, look_back(input_ids) if seen is None else look_back(input_ids) & seen)",
    )


def hides_padding(adapter) -> bool:
    """Return whether the logits of real tokens do not change with the padding."""
    ids = torch.randint(1, 40, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[:, 4:7] = 0
    other = torch.where(mask == 0, (ids + 5) % 40, ids)
    adapter.eval()
    with torch.no_grad():
        before, after = adapter(ids, mask), adapter(other, mask)
        return torch.allclose(before[mask == 1], after[mask == 1], atol=1e-5)


@pytest.mark.parametrize("name", ["attention_mask", "padding_mask", "src_key_padding_mask", "mask"])
@pytest.mark.parametrize("use", sorted(USES))
@pytest.mark.parametrize("family", [an_encoder, a_decoder])
def test_the_meaning_is_inferred_whatever_the_name(make_model, family, use, name) -> None:
    code, expected = USES[use]
    adapter = make_model(family(code, name), PLAIN)
    contract = adapter.contract
    assert contract.mask_argument == name
    assert hides_padding(adapter)
    if use.startswith(("True", "1", "bool only", "float")):
        assert (contract.mask_meaning, contract.mask_dtype, contract.mask_dims) == expected


@pytest.mark.parametrize(("name", "meaning"), [("attention_mask", "real"), ("key_padding_mask", "padding")])
def test_a_mask_that_is_accepted_and_ignored_is_understood_by_its_name(contract_of, name, meaning) -> None:
    contract = contract_of(an_encoder("pass", name), PLAIN)
    assert (contract.mask_argument, contract.mask_meaning) == (name, meaning)


@pytest.mark.parametrize(
    "use", ["seen = mask", "seen = ~mask", "assert mask.shape[0] == mask.shape[1]\nseen = mask != 0"]
)
def test_a_t_by_t_mask_is_never_passed(make_model, use) -> None:
    code = an_encoder(use, "mask").replace("seen = mask, None", "seen = mask, look_back(input_ids)")
    adapter = make_model(code, PLAIN)
    assert adapter.contract.mask_argument is None
    ids = torch.ones(2, 5, dtype=torch.int64)
    assert adapter(ids, torch.ones_like(ids)).shape == (2, 5, 40)


def test_a_padding_mask_is_preferred_to_a_t_by_t_mask(contract_of) -> None:
    code = an_encoder("seen = ~mask[:, None, None, :]", "mask=None, src_key_padding_mask").replace(
        "mask, seen = mask=None, src_key_padding_mask", "mask, seen = src_key_padding_mask"
    )
    assert contract_of(code, PLAIN).mask_argument == "src_key_padding_mask"


def test_a_required_mask_is_all_ones_when_the_caller_gives_none(make_model) -> None:
    adapter = make_model(
        an_encoder("seen = mask[:, None, None, :] != 0", "attention_mask", "").replace(
            "if mask is not None:", "if True:"
        ),
        PLAIN,
    )
    ids = torch.randint(1, 40, (2, 6))
    adapter.eval()
    assert torch.equal(adapter(ids), adapter(ids, torch.ones_like(ids)))
    assert hides_padding(adapter)


@pytest.mark.parametrize(
    "use",
    [
        "seen = mask",
        "seen = ~mask",
        "seen = mask.unsqueeze(1)\nassert mask.dim() == 3",
        "seen = torch.isfinite(mask)\nassert mask.is_floating_point()",
    ],
)
def test_a_required_t_by_t_mask_is_causal(make_model, use) -> None:
    adapter = make_model(an_encoder(use, "mask", ""), {**PLAIN, "architecture": "decoder-only"})
    ids = torch.randint(1, 40, (2, 6))
    other = ids.clone()
    other[:, 4] = (ids[:, 4] + 1) % 40
    adapter.eval()
    before, after = adapter(ids), adapter(other)
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert not torch.allclose(before[:, 4], after[:, 4], atol=1e-5)


def test_a_derived_mask_is_kept_when_the_caller_gives_none(make_model) -> None:
    code = an_encoder("seen = mask[:, None, None, :] != 0", "attention_mask").replace(
        "mask, seen = attention_mask, None",
        "mask, seen = attention_mask if attention_mask is not None else input_ids != 0, None",
    )
    adapter = make_model(code, {**PLAIN, "pad_token_id": 0})
    ids = torch.tensor([[5, 6, 7, 0, 0]])
    assert adapter.contract.mask_meaning == "real"
    assert torch.allclose(adapter(ids)[:, :3], adapter(ids, (ids != 0).long())[:, :3])


class TestEncoderDecoder:
    ARGUMENTS = "src, tgt, src_key_padding_mask=None, tgt_key_padding_mask=None, memory_key_padding_mask=None"
    CODE = (
        a_seq2seq(
            ARGUMENTS,
            "        input_ids, target = src, tgt\n"
            "        hide = lambda mask: None if mask is None else ~mask[:, None, None]\n",
        )
        .replace("block(memory)", "block(memory, hide(src_key_padding_mask))")
        .replace("memory=memory)", "hide(memory_key_padding_mask), memory=memory)")
        .replace(
            "look_back(target))",
            "look_back(target) if tgt_key_padding_mask is None else look_back(target) & hide(tgt_key_padding_mask))",
        )
    )

    def test_each_mask_gets_its_role(self, contract_of) -> None:
        contract = contract_of(self.CODE, PLAIN)
        assert (contract.mask_argument, contract.mask_meaning) == ("src_key_padding_mask", "padding")
        assert contract.decoder_mask_argument == "tgt_key_padding_mask"
        assert contract.fixed_arguments == (("memory_key_padding_mask", "mask"),)

    def test_padding_of_the_source_does_not_reach_the_decoder(self, make_model) -> None:
        adapter = make_model(self.CODE, PLAIN).eval()
        source, target = torch.randint(1, 40, (2, 8)), torch.randint(1, 40, (2, 5))
        mask = torch.ones_like(source)
        mask[:, 5:] = 0
        other = torch.where(mask == 0, (source + 3) % 40, source)
        assert torch.allclose(adapter(source, mask, target), adapter(other, mask, target), atol=1e-5)
        assert not torch.allclose(adapter(source, None, target), adapter(other, None, target), atol=1e-5)

    def test_required_masks_are_all_ones_until_they_are_given(self, make_model) -> None:
        code = self.CODE.replace("mask=None", "mask").replace("None if mask is None else ", "")
        adapter = make_model(code, PLAIN).eval()
        source, target = torch.randint(1, 40, (2, 8)), torch.randint(1, 40, (2, 5))
        expected = adapter(source, torch.ones_like(source), target, torch.ones_like(target))
        assert torch.equal(adapter(source, None, target), expected)
        assert adapter.contract.required_masks == ("src_key_padding_mask", "tgt_key_padding_mask")

    def test_a_required_target_mask_is_causal(self, make_model) -> None:
        code = (
            a_seq2seq("src, tgt, src_mask, tgt_mask", "        input_ids, target = src, tgt\n")
            .replace("block(memory)", "block(memory, None if src_mask is None else src_mask[:, None] != 0)")
            .replace("look_back(target))", "None if tgt_mask is None else tgt_mask != 0)")
        )
        adapter = make_model(code, PLAIN).eval()
        source, target = torch.randint(1, 40, (2, 8)), torch.randint(1, 40, (2, 5))
        other = target.clone()
        other[:, -1] = (target[:, -1] + 1) % 40
        assert torch.allclose(adapter(source, None, target)[:, :-1], adapter(source, None, other)[:, :-1], atol=1e-5)
        assert (adapter.contract.mask_argument, adapter.contract.mask_dims) == ("src_mask", 3)

    def test_a_required_source_mask_is_not_causal(self, contract_of) -> None:
        names = "        input_ids, target = src, tgt\n        assert src_mask is None\n"
        code = a_seq2seq("src, tgt, src_mask, tgt_mask, src_padding_mask", names).replace(
            "look_back(target))", "None if tgt_mask is None else ~tgt_mask)"
        )
        fixed = dict(contract_of(code, PLAIN).fixed_arguments)
        assert fixed == {"src_mask": "none", "tgt_mask": "causal_blocked", "src_padding_mask": "none"}

    def test_an_optional_target_mask_is_not_passed_if_it_breaks_something(self, contract_of) -> None:
        code = a_seq2seq(
            "src, tgt, src_key_padding_mask=None, tgt_mask=None", "        input_ids, target = src, tgt\n"
        ).replace("look_back(target))", "look_back(target) if tgt_mask is None else tgt_mask)")
        assert contract_of(code, PLAIN).decoder_mask_argument is None
