"""Sizes, special tokens and tied weights are read from the configuration and from what was built."""

from __future__ import annotations

import pytest
import torch

from tests.core.models.samples import CAUSAL, PLAIN
from transformer_foundry.core.models import build_model, infer_contract

NO_LIMIT = CAUSAL.replace(
    "self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))", "self.tokens(ids)"
)


class TestSizes:
    def test_the_embedding_decides_if_the_configuration_states_more(self, contract_of) -> None:
        assert contract_of(CAUSAL, {"vocab_size": 50}).vocab_size == 40

    def test_the_configuration_decides_if_the_embedding_is_padded(self, contract_of) -> None:
        assert contract_of(CAUSAL, {"vocab_size": 37}).vocab_size == 37

    def test_an_unstated_vocabulary_is_read_from_the_embedding(self, contract_of) -> None:
        assert contract_of(CAUSAL, {}).vocab_size == 40

    def test_a_vocabulary_without_an_embedding_is_found_by_trying(self, contract_of) -> None:
        one_hot = CAUSAL.replace("self.tokens(ids) +", "F.one_hot(ids, 40).float() @ self.tokens.weight +")
        assert contract_of(one_hot, {}).vocab_size == 40

    @pytest.mark.parametrize("key", ["max_seq_len", "n_positions", "seq_length", "block_size"])
    def test_the_configuration_states_the_longest_sequence(self, contract_of, key) -> None:
        assert contract_of(CAUSAL, {**PLAIN, key: 12}).max_length == 12

    @pytest.mark.parametrize("config", [PLAIN, {**PLAIN, "max_seq_len": 64}])
    def test_a_table_of_positions_limits_the_length(self, contract_of, config) -> None:
        assert contract_of(CAUSAL, config).max_length == 20

    def test_a_slice_of_a_buffer_limits_the_length(self, contract_of) -> None:
        code = CAUSAL.replace(
            "self.positions(torch.arange(ids.shape[1], device=ids.device))", "self.positions.weight[: ids.shape[1]]"
        )
        assert contract_of(code, PLAIN).max_length == 20

    def test_positions_with_an_offset_shorten_the_longest_sequence(self, contract_of) -> None:
        code = CAUSAL.replace("torch.arange(ids.shape[1], device=ids.device)", "torch.arange(ids.shape[1]) + 2")
        assert contract_of(code, PLAIN).max_length == 18

    def test_without_positions_nothing_limits_the_length(self, contract_of) -> None:
        assert contract_of(NO_LIMIT, PLAIN).max_length is None

    @pytest.mark.parametrize(
        "limit",
        [
            "self.tokens(ids) + (0 if ids.shape[1] <= 31 else 1 / 0)",
            "self.tokens(ids) * torch.ones(1, 31, 1).expand(1, 31, 16)[:, torch.arange(ids.shape[1])]",
        ],
    )
    def test_a_limit_of_any_form_is_found_by_trying(self, contract_of, limit) -> None:
        assert contract_of(NO_LIMIT.replace("self.tokens(ids)", limit), {**PLAIN, "span": 31}).max_length == 31

    def test_a_buffer_that_grows_on_demand_is_no_limit(self, contract_of) -> None:
        code = NO_LIMIT.replace(
            "self.tokens(ids)", "self.tokens(ids) + torch.ones(max(64, ids.shape[1]), 16)[: ids.shape[1]]"
        )
        assert contract_of(code, PLAIN).max_length is None

    def test_sizes_are_read_from_drawn_blocks(self, contract_of) -> None:
        config = {
            "nodes": [
                {"id": "input_0", "type": "input", "params": {"seq_length": 9}},
                {"id": "embedding_0", "type": "embedding", "params": {"vocab_size": 30, "pad_token_id": 2}},
            ]
        }
        contract = contract_of(CAUSAL, config)
        assert (contract.vocab_size, contract.max_length, contract.pad_token_id) == (30, 9, 2)


class TestSpecialTokens:
    def test_they_come_from_the_configuration(self, contract_of) -> None:
        contract = contract_of(CAUSAL, {**PLAIN, "pad_id": 0, "eos_token_id": [7, 8], "mask_token_id": 3})
        assert (contract.pad_token_id, contract.eos_token_id, contract.mask_token_id) == (0, 7, 3)
        assert contract.bos_token_id is contract.unk_token_id is contract.decoder_start_token_id is None

    @pytest.mark.parametrize("value", [40, -1, "[PAD]", True, None])
    def test_an_invalid_id_counts_as_missing(self, contract_of, value) -> None:
        assert contract_of(CAUSAL, {**PLAIN, "pad_token_id": value}).pad_token_id is None


class TestWeights:
    def test_tied_weights_are_named_in_groups(self, contract_of) -> None:
        tie = "super().__init__(40, 16, 2, 2, 20)\n        self.head.weight = self.tokens.weight"
        code = CAUSAL.replace("super().__init__(40, 16, 2, 2, 20)", tie)
        assert contract_of(code, PLAIN).tied_weights == (("head.weight", "tokens.weight"),)

    def test_a_transposed_view_is_tied_too(self, contract_of) -> None:
        tie = "super().__init__(40, 16, 2, 2, 20)\n        self.view = nn.Parameter(self.tokens.weight.t())"
        code = CAUSAL.replace("super().__init__(40, 16, 2, 2, 20)", tie)
        assert contract_of(code, PLAIN).tied_weights == (("tokens.weight", "view"),)

    def test_inference_has_no_side_effects(self, tmp_path, make_export) -> None:
        counting = CAUSAL.replace(
            "        return self.logits(", "        self.seen += 1\n        return self.logits("
        ).replace(
            "super().__init__(40, 16, 2, 2, 20)",
            "super().__init__(40, 16, 2, 2, 20)\n        self.register_buffer('seen', torch.zeros(()))",
        )
        model = build_model(make_export(counting, PLAIN), seed=0)
        model.blocks[0].eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        flags, state = [module.training for module in model.modules()], torch.get_rng_state()
        infer_contract(model, PLAIN)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert [module.training for module in model.modules()] == flags
        assert torch.equal(torch.get_rng_state(), state)
        assert all(parameter.grad is None for parameter in model.parameters())
