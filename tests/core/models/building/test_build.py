"""Models are built with every usual constructor."""

from __future__ import annotations

import os

import pytest
import torch

from tests.core.models.samples import CONFIG, CONSTRUCTORS, GRAPH_CONFIG, NO_ARGUMENTS, a_model
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import build_model, find_constructor_call
from transformer_foundry.core.models.inference.call import construct

KEYWORDS = CONSTRUCTORS["keywords"][0]
STYLES = sorted(CONSTRUCTORS)


@pytest.mark.parametrize("style", STYLES)
def test_every_constructor_gets_its_arguments(make_export, style) -> None:
    code, expression = CONSTRUCTORS[style]
    export = make_export(code)
    assert find_constructor_call(export).expression.startswith(expression)
    model = build_model(export)
    assert model.tokens.weight.shape == (40, 16)
    assert len(model.blocks) == 2
    assert model.positions.num_embeddings == 20


@pytest.mark.parametrize("style", STYLES)
def test_the_expression_rebuilds_the_model_from_only_the_two_files(make_export, style) -> None:
    export = make_export(CONSTRUCTORS[style][0])
    names: dict[str, object] = {"__name__": __name__}
    exec(compile(export.model_code, "model.py", "exec", dont_inherit=True), names)
    rebuilt = construct(find_constructor_call(export).expression, names, CONFIG)
    ours = {name: value.shape for name, value in build_model(export).state_dict().items()}
    assert {name: value.shape for name, value in rebuilt.state_dict().items()} == ours


@pytest.mark.parametrize("style", [style for style in STYLES if style not in ("none", "factory without arguments")])
def test_overrides_change_what_is_built(make_export, style) -> None:
    export = make_export(CONSTRUCTORS[style][0])
    assert build_model(export, {"n_layer": 3, "d_model": 8}).tokens.weight.shape == (40, 8)
    assert len(build_model(export, {"n_layer": 3}).blocks) == 3


def test_overrides_of_a_factory_without_arguments_go_to_the_class(make_export) -> None:
    export = make_export(CONSTRUCTORS["factory without arguments"][0])
    assert len(build_model(export, {"n_layer": 3}).blocks) == 3


def test_an_override_that_the_constructor_cannot_take_is_refused(make_export) -> None:
    with pytest.raises(ModelError, match="d_model"):
        build_model(make_export(CONSTRUCTORS["none"][0]), {"d_model": 8})


def test_required_sizes_come_from_the_drawn_blocks(make_export) -> None:
    init = "    def __init__(self, vocab_size, d_model):\n        super().__init__(vocab_size, d_model, 2, 1, 20)\n"
    assert build_model(make_export(a_model(init), GRAPH_CONFIG)).tokens.weight.shape == (40, 16)


def test_equal_seeds_give_equal_weights_and_keep_the_global_state(make_export) -> None:
    export = make_export(KEYWORDS)
    state = torch.get_rng_state()
    first, second, third = (build_model(export, seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_seed_the_global_state_decides(make_export) -> None:
    export = make_export(KEYWORDS)
    torch.manual_seed(5)
    first = build_model(export).head.weight
    torch.manual_seed(5)
    assert torch.equal(build_model(export).head.weight, first)


def test_a_constructor_that_changes_its_configuration_changes_no_other(make_export) -> None:
    code, _ = CONSTRUCTORS["mapping of another name"]
    export = make_export(
        code.replace("super().__init__(**sizes)", 'super().__init__(n_layer=sizes.pop("n_layer"), **sizes)')
    )
    build_model(export)
    assert export.config == CONFIG


def test_a_missing_size_is_reported_with_its_line(make_export) -> None:
    with pytest.raises(ModelError) as caught:
        build_model(make_export(KEYWORDS, {"vocab_size": 40, "d_model": 16, "n_head": 2, "max_seq_len": 20}))
    line = KEYWORDS.splitlines().index("    def __init__(self, vocab_size, d_model, n_head, n_layer, max_seq_len):") + 1
    assert f"model.py line {line}: Net requires 'n_layer'" in str(caught.value)
    assert "vocab_size, d_model, n_head, max_seq_len" in str(caught.value)


def test_a_missing_item_of_the_configuration_is_reported_with_its_line(make_export) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "n_head"}
    with pytest.raises(ModelError, match=r"model\.py line \d+ .*n_head") as caught:
        build_model(make_export(CONSTRUCTORS["mapping"][0], config))
    assert "config.json" in str(caught.value)


def test_an_error_in_the_constructor_is_explained(make_export) -> None:
    code = a_model("    def __init__(self):\n        raise RuntimeError('no such layer')\n")
    with pytest.raises(ModelError, match=r"model\.py line \d+ \(raise RuntimeError.*RuntimeError: no such layer"):
        build_model(make_export(code))


def test_a_model_beyond_memory_is_refused_before_it_is_allocated(make_export) -> None:
    with pytest.raises(ModelError, match=r"GiB.*tokens\.weight"):
        build_model(make_export(KEYWORDS, {**CONFIG, "vocab_size": 10**12}))


def test_a_factory_that_returns_no_module_is_refused(make_export) -> None:
    code = a_model("    def __init__(self, a, b):\n        pass\n", after="def build_model():\n    return Net\n")
    with pytest.raises(ModelError, match=r"build_model\(\) returns type"):
        build_model(make_export(code))


def test_a_class_without_super_init_is_named(make_export) -> None:
    with pytest.raises(ModelError, match=r"model\.py line \d+: Net never calls super"):
        build_model(make_export(a_model("    def __init__(self):\n        pass\n")))


def test_a_missing_attribute_of_the_model_is_not_mistaken_for_a_size(make_export) -> None:
    code = a_model(
        "    def __init__(self):\n        super().__init__(40, 16, 2, 2, 20)\n        self.rows = self.table\n"
    )
    with pytest.raises(ModelError, match="no attribute 'table'") as caught:
        build_model(make_export(code))
    assert "config.json" not in str(caught.value)


def test_exiting_code_does_not_end_foundry(make_export) -> None:
    with pytest.raises(ModelError, match="SystemExit"):
        build_model(make_export(KEYWORDS + "\nimport sys\nsys.exit(3)\n"))


def test_the_folder_of_an_export_is_not_changed(make_export) -> None:
    export = make_export(KEYWORDS)
    build_model(export)
    assert sorted(path.name for path in export.folder.iterdir()) == ["config.json", "model.py"]


def test_an_override_uses_the_name_in_the_configuration(make_export) -> None:
    code = CONSTRUCTORS["mapping"][0].replace('"d_model"', '"hidden_size"')
    config = {("hidden_size" if key == "d_model" else key): value for key, value in CONFIG.items()}
    assert build_model(make_export(code, config), {"d_model": 8}).tokens.embedding_dim == 8


def test_tensors_cached_during_the_trial_stay_out_of_the_model(make_export) -> None:
    cached = "import functools\n\n\n@functools.lru_cache\ndef table():\n    return torch.ones(20, 16)\n"
    init = f"{NO_ARGUMENTS}        self.register_buffer('pe', table())\n"
    assert build_model(make_export(a_model(init, before=cached))).pe.sum() == 320


def test_code_that_seeds_during_the_import_changes_no_global_state(make_export) -> None:
    state = torch.get_rng_state()
    build_model(make_export(KEYWORDS + "\ntorch.manual_seed(42)\n"), seed=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("annotation", ["'ModelArgs'", "'ModelArgs | None'", "'the sizes: a ModelArgs (see above)'"])
def test_annotations_may_be_strings(make_export, annotation) -> None:
    code = CONSTRUCTORS["dataclass by annotation"][0].replace("config: ModelArgs", f"config: {annotation}")
    assert find_constructor_call(make_export(code)).expression.startswith("Net(ModelArgs(")


def test_a_size_that_is_null_is_passed_on_if_it_is_required(make_export) -> None:
    init = f"{NO_ARGUMENTS}        assert pad_token_id is None\n".replace("(self)", "(self, pad_token_id)")
    assert (
        find_constructor_call(make_export(a_model(init), {"pad_token_id": None})).expression == "Net(pad_token_id=None)"
    )


def test_a_missing_library_is_named(make_export) -> None:
    with pytest.raises(ModelError, match="install 'no_such_library'"):
        build_model(make_export("import no_such_library\n" + KEYWORDS))


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('ls')", "print('a')", "exec('1')", "Net(exec('1'))", "(lambda: 1)()",
        "Net.__init__(1)",
        "system('ls')", "Net(a if 1 else 2)", "[Net() for _ in (1,)]", "Net(*[1])", "Net()()", "config", "Net(", 7,
        "Net(width=open('a'))", "Net(" * 500,
    ],
)  # fmt: skip
def test_an_expression_that_is_more_than_a_constructor_call_is_refused(expression) -> None:
    class Net:
        def __init__(self, *_, **__) -> None:
            raise AssertionError("it was called")

    names = {"__name__": Net.__module__, "Net": Net, "system": os.system, "exec": exec}
    with pytest.raises(ValueError, match=r"is not a call|is no class|malformed"):
        construct(expression, names, {})
