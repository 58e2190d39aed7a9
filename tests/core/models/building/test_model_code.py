"""The class of the model is the one that is named, otherwise the one that no other class uses."""

from __future__ import annotations

import pytest

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import build_model

HEAD = "from torch import nn\n\n"


def a_class(name: str, base: str = "nn.Module", uses: str = "") -> str:
    body = f"        self.part = {uses}()\n" if uses else ""
    return f"class {name}({base}):\n    def __init__(self):\n        super().__init__()\n{body}\n\n"


@pytest.fixture
def class_of(make_export):
    """Source text and configuration -> name of the class that is built."""
    return lambda code, config=None: type(build_model(make_export(HEAD + code, config or {}))).__name__


@pytest.mark.parametrize("key", ["model_name", "class_name", "architectures"])
@pytest.mark.parametrize("stated", ["TinyGPT", "Tiny GPT", "tiny-gpt"])
def test_the_named_class_is_used(class_of, key, stated) -> None:
    code = a_class("TinyGPT") + a_class("Outer", uses="TinyGPT")
    assert class_of(code, {key: [stated] if key == "architectures" else stated}) == "TinyGPT"


def test_without_a_name_the_default_name_is_used(class_of) -> None:
    assert class_of(a_class("CustomTransformer") + a_class("Trainer", uses="CustomTransformer")) == "CustomTransformer"


def test_the_class_that_no_other_uses_is_used_wherever_it_stands(class_of) -> None:
    code = a_class("Layer") + a_class("Model", uses="Stack") + a_class("Stack", uses="Layer")
    assert class_of(code) == "Model"


def test_a_base_class_counts_as_used_by_its_subclass(class_of) -> None:
    assert class_of(a_class("Base", uses="Layer") + a_class("WithHead", base="Base") + a_class("Layer")) == "WithHead"


def test_of_several_unused_classes_the_one_that_uses_most_is_chosen(class_of) -> None:
    code = a_class("Layer") + a_class("Net", uses="Layer") + a_class("ForgottenNorm")
    assert class_of(code) == "Net"


def test_of_equal_classes_the_last_is_chosen(class_of) -> None:
    assert class_of(a_class("First") + a_class("Second")) == "Second"


def test_an_imported_class_is_not_the_model(class_of) -> None:
    assert class_of("from torch.nn import Transformer\n" + a_class("Net"), {"model_name": "Transformer"}) == "Net"


def test_code_without_a_module_is_refused(class_of) -> None:
    with pytest.raises(ModelError, match="defines no class that derives from"):
        class_of("class Net:\n    pass\n")
