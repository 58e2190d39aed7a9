"""The table and the figure of what verification found."""

from __future__ import annotations

from transformer_foundry.core.export.verification.report import parity_figure, parity_table

SHAPES = [{"batch": 1, "length": 1, "max_abs_error": 0.0}, {"batch": 2, "length": 9, "max_abs_error": 2e-6}]
MANIFEST = {
    "formats": [
        {"format": "onnx", "status": "verified", "tolerance": 1e-4, "shapes": SHAPES},
        {"format": "onnx-int8", "status": "verified", "shapes": [SHAPES[1] | {"max_abs_error": None}]},
        {"format": "pt2", "status": "failed", "reason": "it ties a size"},
    ]
}


def test_the_table_has_a_row_for_each_format_and_shape() -> None:
    table = parity_table(MANIFEST)
    assert table["format"].tolist() == ["onnx", "onnx", "onnx-int8"]
    assert table["max_abs_error"].tolist()[:2] == [0.0, 2e-6]
    assert table["allowed"].isna().tolist() == [False, False, True]


def test_the_figure_shows_each_format_and_what_is_allowed() -> None:
    (axes,) = parity_figure(MANIFEST).axes
    assert [line.get_label() for line in axes.get_lines()] == [
        "onnx",
        "onnx-int8, judged by quality",
        "allowed, of exact formats",
    ]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1x1", "2x9"]
    assert parity_figure({"formats": []}).axes
