"""What an error shows of the values that it quotes."""

from __future__ import annotations

from transformer_foundry.core.base.errors import FoundryError


def test_an_error_has_at_most_three_lines_without_control_characters() -> None:
    error = FoundryError("a\nb \x1b[2Jc", "d\u202ee\x9b", "\ud800")
    assert str(error) == "a b \\x1b[2Jc\nd\\u202ee\\x9b\n\\ud800"
