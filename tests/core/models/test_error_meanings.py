"""Exceptions of a model's code are explained by their cause."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from transformer_foundry.core.models.error_meanings import KNOWN_ERRORS, explain, root_cause


def _raised(code: str) -> Exception:
    try:
        exec(code, {"torch": torch, "F": F})
    except Exception as err:
        return err
    raise AssertionError(code)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("undefined_name", "not defined"),
        ("torch.zeros(2, 3).T.view(6)", "contiguous"),
        ("torch.zeros(7).view(2, 3)", "reshape"),
        ("F.embedding(torch.tensor([9]), torch.zeros(3, 2))", "too small"),
        ("torch.zeros(2, 3) @ torch.zeros(4, 2)", "shapes"),
        ("torch.zeros(2, 3) + torch.zeros(2, 4)", "shapes"),
        ("torch.zeros(2, dtype=torch.float16).masked_fill(torch.ones(2).bool(), -1e9)", "too large"),
        ("torch.zeros(2, 2) @ torch.zeros(2, 2).half()", "dtypes"),
        ("torch.zeros(2).sum().backward()", "detached"),
        ("{}['d_model']", "does not exist"),
        ("torch.zeros(10**15)", "memory"),
        ("import no_library_of_this_name", "imports 'no_library_of_this_name'"),
        ("def", "not valid Python"),
    ],
)
def test_the_exception_of_torch_is_explained_by_its_cause(code: str, word: str) -> None:
    assert word in explain(_raised(code)).meaning


def test_an_unknown_exception_names_the_line_as_what_to_correct() -> None:
    assert "that line" in explain(ZeroDivisionError("division by zero")).fix


def test_every_fix_is_a_clause_that_a_sentence_can_end_with() -> None:
    assert [fix for _, _, fix in KNOWN_ERRORS if fix.endswith(".") or fix[0].isupper()] == []


def test_the_root_cause_is_the_first_exception_of_the_chain() -> None:
    first, wrapped = ValueError("first"), RuntimeError("wrapped")
    wrapped.__cause__ = first
    assert root_cause(wrapped) is first
