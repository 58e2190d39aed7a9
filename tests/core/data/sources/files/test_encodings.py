# ruff: noqa: RUF001
"""The encoding that a message suggests is the one in which the bytes read as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.sources.encodings import likely_encodings
from transformer_foundry.core.data.sources.files.sniff import sniff

RUSSIAN = "Сегодня хорошая погода, и мы идём гулять в парк"
SAMPLES = {
    "cp1251": RUSSIAN,
    "koi8-r": RUSSIAN,
    "cp866": RUSSIAN,
    "shift_jis": "今日は天気がいいので、公園へ散歩に行きます",
    "gb18030": "今天天气很好，我们去公园散步",
    "big5": "今天天氣很好，我們去公園散步",
    "euc-kr": "오늘은 날씨가 좋아서 공원에 산책하러 갑니다",
    "cp1252": "Le café était très agréable, à bientôt",
    "cp1250": "Zażółć gęślą jaźń, dzień dobry, świetny film",
    "cp1253": "Σήμερα ο καιρός είναι πολύ καλός και πάμε βόλτα",
    "cp1254": "Bugün hava çok güzel, parka gidiyoruz, şaşırdım",
}


@pytest.mark.parametrize(("encoding", "text"), SAMPLES.items())
def test_the_first_suggestion_is_the_encoding_of_the_text(encoding: str, text: str) -> None:
    assert likely_encodings(text.encode(encoding))[0] == encoding


@pytest.mark.parametrize(
    ("encoding", "text"), [("gb18030", "中文句子测试"), ("gb18030", "这部电影"), ("shift_jis", "ﾃｽﾄ ｶﾀｶﾅ")]
)
def test_bytes_of_chinese_are_no_narrow_katakana(encoding: str, text: str) -> None:
    assert likely_encodings(f"{text} Text 1 about music".encode(encoding))[0] == encoding


@pytest.mark.parametrize(("encoding", "text"), SAMPLES.items())
def test_the_message_suggests_it(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"text,label\n{text},1\n{text},0\n".encode(encoding))
    with pytest.raises(DataError, match=rf"data\.encoding={encoding}"):
        sniff(path)


def test_one_broken_line_of_a_utf8_file_is_named_and_no_encoding_is_advised(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = ["text,label", *["café,pos"] * 5]
    path.write_bytes("\n".join(lines).encode() + b"\nth\xe9,neg\n")
    with pytest.raises(DataError, match="line 7") as caught:
        sniff(path)
    assert "Correct or remove the line" in str(caught.value)
    assert "data.encoding=" not in str(caught.value)
