"""The contract is inferred from configuration, signature and behavior."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tests.core.models.samples import CAUSAL, ENCODER, GRAPH_CONFIG, INTERMEDIATES, PLAIN, a_forward, a_model, a_seq2seq
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import infer_contract


class TestKind:
    def test_a_model_that_does_not_see_the_future_is_a_decoder(self, contract_of) -> None:
        contract = contract_of(CAUSAL, PLAIN)
        assert (contract.kind, contract.task) == ("decoder-only", "causal_lm")

    def test_a_model_that_sees_the_future_is_an_encoder(self, contract_of) -> None:
        contract = contract_of(ENCODER, PLAIN)
        assert (contract.kind, contract.task) == ("encoder-only", "masked_lm")

    def test_a_prefix_language_model_is_a_decoder(self, contract_of) -> None:
        code = a_forward(
            "input_ids",
            "seen = look_back(input_ids) | (torch.arange(input_ids.shape[1]) < 5)\nreturn self.logits(input_ids, seen)",
        )
        assert contract_of(code, PLAIN).kind == "decoder-only"

    def test_a_causal_mask_that_is_off_by_one_still_makes_a_decoder(self, contract_of) -> None:
        assert contract_of(CAUSAL.replace(".tril()", ".tril(diagonal=1)"), PLAIN).kind == "decoder-only"

    @pytest.mark.parametrize("seen", ["(t[None] - t[:, None]).abs() <= 2", "t[None] // 8 == t[:, None] // 8"])
    def test_an_encoder_with_local_attention_is_no_decoder(self, contract_of, seen) -> None:
        code = a_forward("input_ids", f"t = torch.arange(input_ids.shape[1])\nreturn self.logits(input_ids, {seen})")
        code = code.replace("2, 2, 20", "2, 2, 64")
        assert contract_of(code, PLAIN).kind == "encoder-only"

    @pytest.mark.parametrize(("code", "kind"), [(CAUSAL, "decoder-only"), (ENCODER, "encoder-only")])
    def test_closed_gates_do_not_hide_the_kind(self, contract_of, code, kind) -> None:
        closed = code.replace(
            "super().__init__(40, 16, 2, 2, 20)",
            (
                "super().__init__(40, 16, 2, 2, 20)\n"
                "        for block in self.blocks:\n            nn.init.zeros_(block.out.weight)"
            ),
        )
        assert contract_of(closed, PLAIN).kind == kind

    def test_dropout_that_is_always_on_does_not_hide_the_kind(self, contract_of) -> None:
        noisy = CAUSAL.replace("return self.tokens(ids)", "return F.dropout(self.tokens(ids), 0.5)")
        assert contract_of(noisy, PLAIN).kind == "decoder-only"

    def test_a_drawn_decoder_that_sees_the_future_is_still_a_decoder(self, contract_of) -> None:
        assert (
            contract_of(a_forward("input_0_tokens", "return self.logits(input_0_tokens)"), GRAPH_CONFIG).kind
            == "decoder-only"
        )

    @pytest.mark.parametrize("key", ["architecture", "kind", "model_kind"])
    @pytest.mark.parametrize("stated", ["decoder-only", "decoder_only", "Decoder-Only"])
    def test_the_configuration_takes_precedence_over_the_behavior(self, contract_of, key, stated) -> None:
        assert contract_of(ENCODER, {**PLAIN, key: stated}).kind == "decoder-only"

    def test_logits_that_are_minus_infinity_do_not_hide_the_kind(self, contract_of) -> None:
        code = CAUSAL.replace(
            "return self.logits(input_ids, look_back(input_ids))",
            (
                "logits = self.logits(input_ids, look_back(input_ids))\n"
                "        return logits.masked_fill(torch.arange(40) > 35, float('-inf'))"
            ),
        )
        assert contract_of(code, PLAIN).kind == "decoder-only"

    @pytest.mark.parametrize("stated", [{"config": {**PLAIN, "model_type": "gpt5"}}, {"kind": "decoder-only"}])
    def test_a_decoder_that_requires_targets_gets_its_ids(self, make_model, stated) -> None:
        code = a_forward("idx, targets", "logits = self.logits(idx, look_back(idx))\nreturn logits, logits.mean()")
        adapter = make_model(code, stated.pop("config", PLAIN), **stated)
        assert adapter.contract.kind == "decoder-only"
        assert adapter(torch.ones(2, 3, dtype=torch.int64)).shape == (2, 3, 40)

    def test_the_user_takes_precedence_over_the_configuration(self, contract_of) -> None:
        contract = contract_of(ENCODER, {**PLAIN, "architecture": "decoder-only"}, kind="encoder_only")
        assert (contract.kind, contract.task) == ("encoder-only", "masked_lm")

    def test_a_loss_that_shifts_its_labels_makes_a_decoder(self, contract_of) -> None:
        code = a_forward(
            "input_ids, labels=None",
            "logits = self.logits(input_ids)\n"
            "if labels is None:\n    return logits\n"
            "return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), logits",
        )
        assert contract_of(code, PLAIN).kind == "decoder-only"

    @pytest.mark.parametrize(
        "arguments",
        [
            "input_ids, target",
            "input_ids, decoder_input_ids",
            "input_ids, tgt",
            "input_ids, y",
            "input_ids, decoder_input_ids=None",
            "input_0_tokens, input_1_tokens",
        ],
    )
    def test_decoder_ids_make_an_encoder_decoder(self, contract_of, arguments) -> None:
        first, second = arguments.removesuffix("=None").split(", ")
        code = a_seq2seq(arguments, f"        input_ids, target = {first}, {second}\n")
        contract = contract_of(code, PLAIN)
        assert (contract.kind, contract.task) == ("encoder-decoder", "seq2seq_lm")
        assert (contract.ids_argument, contract.decoder_ids_argument) == (first, second)

    def test_an_encoder_decoder_without_decoder_ids_is_refused(self, contract_of) -> None:
        with pytest.raises(ModelError, match="takes no decoder ids"):
            contract_of(CAUSAL, {**PLAIN, "architecture": "encoder-decoder"})

    @pytest.mark.parametrize("stated", [{"kind": "encoder"}, {"task": "causal"}])
    def test_a_kind_or_task_that_does_not_exist_is_refused(self, contract_of, stated) -> None:
        with pytest.raises(ModelError, match="Did you mean"):
            contract_of(CAUSAL, PLAIN, **stated)

    @pytest.mark.parametrize(
        "stated",
        [
            {"task": "sequence_classification"},
            {"kind": "encoder-only", "task": "causal_lm"},
        ],
    )
    def test_a_task_that_the_model_cannot_do_is_refused(self, contract_of, stated) -> None:
        with pytest.raises(ModelError, match=r"model\.task is"):
            contract_of(CAUSAL, PLAIN, **stated)


class TestClassifiers:
    INIT = "    def __init__(self):\n        super().__init__(40, 16, 2, 2, 20, outputs=3)\n"

    def test_one_set_of_logits_per_text_classifies_texts(self, contract_of) -> None:
        code = a_model(self.INIT, "    def forward(self, input_ids):\n        return self.logits(input_ids).mean(1)\n")
        contract = contract_of(code, PLAIN)
        assert (contract.kind, contract.task) == ("encoder-only", "sequence_classification")
        assert contract.num_labels == contract.output_size == 3

    def test_a_few_logits_per_token_classify_tokens(self, contract_of) -> None:
        code = a_model(self.INIT, "    def forward(self, input_ids):\n        return self.logits(input_ids)\n")
        assert contract_of(code, PLAIN).task == "token_classification"

    def test_a_head_that_is_one_off_is_still_a_language_model(self, contract_of) -> None:
        contract = contract_of(a_model(self.INIT.replace("outputs=3", "outputs=39")), PLAIN)
        assert (contract.task, contract.output_size, contract.vocab_size) == ("causal_lm", 39, 40)

    @pytest.mark.parametrize("end", ["", ".squeeze(-1)", "[:, 0]"])
    def test_one_number_per_text_is_one_output(self, contract_of, end) -> None:
        code = a_model(
            self.INIT.replace("=3", "=1"),
            f"    def forward(self, ids):\n        return self.logits(ids).mean(1){end}\n",
        )
        contract = contract_of(code, PLAIN)
        assert (contract.task, contract.output_size, contract.scores_texts) == ("sequence_classification", 1, True)

    @pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
    def test_the_configuration_may_state_what_a_text_gets(self, contract_of, problem) -> None:
        size = 1 if problem == "regression" else 3
        code = a_model(
            self.INIT.replace("=3", f"={size}"),
            "    def forward(self, ids):\n        return self.logits(ids).mean(1)\n",
        )
        assert contract_of(code, PLAIN | {"problem_type": problem}).task == problem

    def test_several_outputs_are_no_regression(self, contract_of) -> None:
        code = a_model(self.INIT, "    def forward(self, ids):\n        return self.logits(ids).mean(1)\n")
        with pytest.raises(ModelError, match=r"model\.task is regression, but .* returns 3 scores per text"):
            contract_of(code, PLAIN, task="regression")

    @pytest.mark.parametrize(
        ("end", "activation"),
        [(".sigmoid()", "sigmoid"), ("", None), (".softmax(-1)", None), (".relu()", None), (".tanh()", None)],
    )
    @pytest.mark.parametrize("size", [1, 3])
    def test_a_sigmoid_at_the_end_is_found_and_undone(self, contract_of, end, activation, size) -> None:
        code = a_model(
            self.INIT.replace("=3", f"={size}"),
            f"    def forward(self, ids):\n        return self.logits(ids).mean(1){end}\n",
        )
        assert contract_of(code, PLAIN).output_activation == activation


class TestLoss:
    HEAD = "logits = self.logits(input_ids, look_back(input_ids))\nif labels is None:\n    return {'logits': logits}\n"
    SHIFTED = "F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())"
    UNSHIFTED = "F.cross_entropy(logits.flatten(0, 1), labels.flatten())"

    @pytest.mark.parametrize(("loss", "shift"), [(SHIFTED, "shifted"), (UNSHIFTED, "unshifted")])
    @pytest.mark.parametrize("extra", ["", " + 0.01 * logits.pow(2).mean()", " * 3"])
    def test_its_shift_is_inferred_despite_further_terms(self, contract_of, loss, shift, extra) -> None:
        code = a_forward("input_ids, labels=None", f"{self.HEAD}return {{'loss': {loss}{extra}, 'logits': logits}}")
        contract = contract_of(code, PLAIN)
        assert (contract.labels_argument, contract.computes_loss, contract.loss_shift) == ("labels", True, shift)

    def test_labels_that_do_nothing_compute_no_loss(self, contract_of) -> None:
        contract = contract_of(a_forward("input_ids, labels=None", self.HEAD + "return {'logits': logits}"), PLAIN)
        assert (contract.computes_loss, contract.loss_shift) == (False, None)

    def test_logits_that_need_labels_are_requested_with_labels(self, make_model) -> None:
        code = a_forward(
            "idx, targets=None",
            "x = self.states(idx, look_back(idx))\n"
            "if targets is None:\n    return self.head(x[:, [-1]]), None\n"
            "logits = self.head(x)\nreturn logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())",
        )
        adapter = make_model(code, PLAIN)
        assert adapter.contract.loss_shift == "unshifted"
        assert adapter(torch.ones(2, 5, dtype=torch.int64)).shape == (2, 5, 40)


def time_first(code: str) -> str:
    """The forward, with (T, B) ids and (T, B, V) logits."""
    return code.replace(
        "def forward(self, input_ids):", "def forward(self, src):\n        input_ids = src.t()"
    ).replace("look_back(input_ids))", "look_back(input_ids)).transpose(0, 1)")


class TestForms:
    @pytest.mark.parametrize("last", ["[:, -1]", "[:, -1:]"])
    def test_logits_of_the_last_position_alone_are_those_of_the_next_token(self, make_model, last) -> None:
        code = a_forward("input_ids", f"return self.logits(input_ids, look_back(input_ids)){last}")
        adapter = make_model(code, PLAIN)
        assert (adapter.contract.kind, adapter.contract.task) == ("decoder-only", "causal_lm")
        assert adapter.contract.next_token_only
        assert adapter(torch.ones(2, 5).long()).shape == (2, 1, 40)

    def test_ids_of_time_and_batch_are_passed_so(self, make_model) -> None:
        plain, turned = make_model(CAUSAL, PLAIN), make_model(time_first(CAUSAL), PLAIN)
        ids = torch.randint(40, (2, 5))
        assert turned.contract.time_first
        assert not plain.contract.time_first
        assert torch.allclose(plain(ids), turned(ids))

    def test_samples_that_mix_by_mistake_are_not_taken_for_time(self, contract_of) -> None:
        code = CAUSAL.replace("scores.softmax(-1) @ value", "scores.softmax(-1) @ value + value.mean(0)")
        assert not contract_of(code, PLAIN).time_first

    @pytest.mark.parametrize("read", ['batch["{0}"]', "batch.{0}"])
    def test_one_mapping_for_all_inputs_is_passed_as_such(self, make_model, read) -> None:
        body = 'real = batch.get("attention_mask")\n'
        body += f"ids = {read.format('input_ids')}\nsegments = {read.format('segment_ids')}\n"
        body += "allowed = None if real is None else real[:, None, None].bool()\n"
        body += 'return {"out": self.logits(ids + 0 * segments, allowed)}'
        adapter = make_model(a_forward("batch", body), PLAIN)
        assert adapter.contract.batch_argument == "batch"
        assert adapter.contract.mask_argument == "attention_mask"
        assert adapter.contract.fixed_arguments == (("segment_ids", "zeros"),)
        ids, mask = torch.randint(40, (2, 5)), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
        other = ids.clone()
        other[1, 3:] = 7
        assert torch.allclose(adapter(ids, mask)[1, :3], adapter(other, mask)[1, :3])

    @pytest.mark.parametrize(
        "name",
        ["segment_ids", "seg", "segment_label", "token_type_ids", "sentence_ids", "segments", "tok_types", "types"],
    )
    def test_segments_of_any_name_are_zeros(self, contract_of, name) -> None:
        code = a_forward(f"input_ids, {name}", f"return self.logits(input_ids + 0 * {name})")
        assert contract_of(code, PLAIN).fixed_arguments == ((name, "zeros"),)


class TestRefusals:
    def test_a_forward_that_requires_its_own_results_is_refused_with_the_line(self, contract_of) -> None:
        with pytest.raises(ModelError) as caught:
            contract_of(INTERMEDIATES, {})
        line = INTERMEDIATES.splitlines().index("        mhsa_0_output: torch.Tensor,") + 1
        text = str(caught.value)
        assert f"model.py line {line}: forward requires the arguments mhsa_0_output, residual_0_output" in text
        assert "output_0_logits" in text
        assert text.count("\n") == 2

    def test_an_undefined_name_is_reported_with_its_line(self, contract_of) -> None:
        code = a_forward("input_ids", "x = self.logits(input_ids)\nreturn output_0_logits")
        line = code.splitlines().index("        return output_0_logits") + 1
        with pytest.raises(ModelError, match=rf"model\.py line {line} .*output_0_logits"):
            contract_of(code, PLAIN)

    def test_an_argument_of_unknown_meaning_is_named(self, contract_of) -> None:
        with pytest.raises(ModelError, match="forward requires the argument 'temperature'"):
            contract_of(a_forward("input_ids, temperature", "return self.logits(input_ids)"), PLAIN)

    def test_a_forward_without_arguments_is_refused(self, contract_of) -> None:
        with pytest.raises(ModelError, match="takes no named argument"):
            contract_of(CAUSAL.replace("def forward(self, input_ids)", "def forward(self, *inputs)"), PLAIN)

    def test_hidden_states_are_not_taken_for_logits(self, contract_of) -> None:
        with pytest.raises(ModelError, match=r"forward never calls self\.head, which has 40 outputs"):
            contract_of(a_forward("input_ids", "return self.states(input_ids)"), {**PLAIN, "d_model": 16})

    def test_an_output_without_logits_is_described(self, contract_of) -> None:
        with pytest.raises(ModelError, match=r"returns one number, a loss, and no logits"):
            contract_of(a_forward("input_ids", "return {'loss': self.logits(input_ids).mean(), 'mask': None}"), PLAIN)

    def test_a_hard_coded_device_is_named(self, contract_of) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(ModelError, match=r"\.cuda\(\)") as caught:
            contract_of(a_forward("input_ids", "return self.logits(input_ids.cuda())"), PLAIN)
        assert "Foundry chooses the device" in str(caught.value)

    def test_a_plain_torch_layer_is_no_language_model(self) -> None:
        with pytest.raises(ModelError):
            infer_contract(nn.Linear(3, 3), {})

    def test_a_model_that_runs_in_one_shape_only_still_has_a_contract(self, contract_of) -> None:
        code = a_forward(
            "input_ids", "assert input_ids.shape[1] == 20\nreturn self.logits(input_ids, look_back(input_ids))"
        )
        assert contract_of(code, {**PLAIN, "max_seq_len": 20}).kind == "decoder-only"


def test_a_contract_is_plain_data(contract_of) -> None:
    content = json.loads(json.dumps(contract_of(CAUSAL, PLAIN).to_dict()))
    assert content["ids_argument"] == "input_ids"
    assert content["fixed_arguments"] == []


def test_a_hint_in_the_name_of_the_class_is_enough(tmp_path, contract_of) -> None:
    code = ENCODER.replace("class Net", "class NetForMaskedLM")
    assert contract_of(code, {"vocab_size": 40}).task == "masked_lm"
