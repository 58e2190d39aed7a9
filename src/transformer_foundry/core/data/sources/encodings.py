# ruff: noqa: RUF001
"""Which encoding bytes are probably in: candidates that decode them, ranked by how plausible their text is."""

from __future__ import annotations

import codecs
import itertools
import re
import unicodedata
from functools import lru_cache

__all__ = ["likely_encodings", "misread_sample"]

_CANDIDATES = (
    *("cp1252", "cp1251", "cp1250", "koi8-r", "shift_jis", "euc-jp", "gb18030", "big5", "euc-kr", "iso8859-2"),
    *("cp1253", "cp1255", "cp1256", "cp1254", "cp866", "mac-roman"),
)
_SAMPLE_BYTES = 2**16
_WIDE = ("HAN", "HIRAGANA", "KATAKANA", "HANGUL")
_FREQUENT = {
    "CYRILLIC": frozenset("оеаинтсрвлкмдпу"),
    "GREEK": frozenset("αοιετσνηυρπκ"),
    "HEBREW": frozenset("יוהלאתרמבנש"),
    "ARABIC": frozenset("اليمونرتبةعد"),
    "HAN": frozenset("的是不我一有在人了中大国年上日本会出生時時这個这为来到说说们們和地行事書見学學新子好小心下天这"),
    "HANGUL": frozenset("이는다을가에의고하지를로도은한사"),
}
_LATIN = frozenset("äöüßéèêàçñáíóúãõåøæâîôûïëœłżźćńśęąčšžřěůýőűğşıÄÖÜÉÅØ")
"""Letters with marks that are frequent in some language; the others of the Latin blocks are rare in words."""
_QUOTES = frozenset("‘’“”„–—…€«»•°§©®£±×²³½·、。「」，！？：；・")
_MARKED_RUN = re.compile(r"[^\W\d_a-zA-Z]{3,}")
_SHOWN_BYTES = 40
_WINDOWS_TABLES = {
    "iso8859-1": "cp1252",
    "iso8859-15": "cp1252",
    "iso8859-2": "cp1250",
    "iso8859-7": "cp1253",
    "iso8859-9": "cp1254",
}
"""Tables of ISO, which have control characters that no text contains where these of Windows have quotes and dashes."""
_CONTROL_BYTES = re.compile(rb"\S*[\x80-\x9f]\S*")
_HALFWIDTH = ("\uff61", "\uff9f")
_WORTH = 0.75  # a candidate is named if its score is at least this share of the best one


def likely_encodings(raw: bytes, most: int = 3) -> list[str]:
    """Return the encodings in which bytes that are not UTF-8 read as plausible text, the best first.

    A text is plausible if its letters that are not ASCII are of one script and are frequent ones, and if no control
    character or symbol stands between letters. Encodings that give the same text are named once.

    Args:
        raw: A piece of the file; the first 64 KiB with bytes that are not ASCII decide.
        most: The largest number of names.

    Example:
        >>> likely_encodings("Сегодня хорошая погода".encode("cp1251"))[0]
        'cp1251'
    """
    lines = [line for line in raw.split(b"\n") if not line.isascii()]
    sample = b"\n".join(lines)[:_SAMPLE_BYTES]
    scores: dict[str, tuple[float, str]] = {}
    for position, name in enumerate(_CANDIDATES):
        text = _decoded(sample, name)
        if text is None or any(text == other for _, other in scores.values()):
            continue
        score = _plausibility(text) - position / 1000  # the more frequent encoding of equal ones
        if score > 0:
            scores[name] = (score, text)
    ranked = sorted(scores, key=lambda name: -scores[name][0])
    return [name for name in ranked if scores[name][0] >= _WORTH * scores[ranked[0]][0]][:most]


def misread_sample(raw: bytes, encoding: str) -> tuple[str, str, str] | None:
    """Return another encoding in which bytes are clearly written, a piece of them in ``encoding``, and in that one.

    Text that is valid UTF-8 is hardly ever written in anything else. Of the other encodings, one is better only if
    ``encoding`` is one of those that can be compared with it. None if there is no better one.

    Example:
        >>> misread_sample("Zürich".encode(), "latin-1")
        ('utf-8', 'ZÃ¼rich', 'Zürich')
    """
    line = next((line for line in raw.split(b"\n")[:-1] or [raw] if not line.isascii()), b"")
    name = _codec(encoding)
    if not line or name.startswith("utf"):
        return None
    piece = next(word for word in line.split() if not word.isascii())[:_SHOWN_BYTES]
    right = "utf-8"
    windows = _WINDOWS_TABLES.get(codecs.lookup(encoding).name)
    if windows is not None and _decoded(raw, right) is None and _decoded(raw, windows) is not None:
        found = _CONTROL_BYTES.search(raw)
        if found is not None:
            piece = found.group()[:_SHOWN_BYTES]
            return windows, piece.decode(encoding), piece.decode(windows)
    if _decoded(raw, "utf-8") is None:
        likely = likely_encodings(raw)
        known = {_codec(candidate) for candidate in _CANDIDATES}
        if not likely or name not in known or name in map(_codec, likely):
            return None
        right = likely[0]
        if _decoded(raw, right) == _decoded(raw, name):
            return None
    return right, piece.decode(name, "replace"), piece.decode(right, "replace")


def _codec(name: str) -> str:
    found = codecs.lookup(name).name
    return "cp1252" if found == "iso8859-1" else found


def _decoded(raw: bytes, name: str) -> str | None:
    try:
        return raw.decode(name)
    except UnicodeDecodeError as err:
        # Only the last character of the sample may be cut.
        return raw[: err.start].decode(name) if err.start >= len(raw) - 3 and len(raw) >= _SAMPLE_BYTES else None


def _plausibility(text: str) -> float:
    """Return a score of at most about 1: the worth of the characters that are not ASCII, by their number."""
    foreign = [char for char in text if char > "\x7f"]
    if not foreign:
        return 0.0
    scripts = [_script(char) for char in foreign]
    letters = [script for script in scripts if script]
    main = max(set(letters), key=letters.count) if letters else ""
    score = sum(
        _worth(char, script, main, is_wide=main in _WIDE) for char, script in zip(foreign, scripts, strict=True)
    )
    for one, char, other in zip(text, text[1:], text[2:], strict=False):
        inside = one.isalpha() and other.isalpha()
        score -= 1.0 * (char > "\x7f" and inside and not char.isalpha() and not unicodedata.combining(char))
    if main == "LATIN":  # three letters with marks side by side occur in no word
        score -= 0.7 * sum(map(len, _MARKED_RUN.findall(text)))
    for one, other in itertools.pairwise(text):
        # aB within a word, and letters of two scripts side by side, are signs of a wrong table.
        is_mixed = one.isalpha() and other.isalpha() and (one > "\x7f" or other > "\x7f")
        score -= 0.7 * (is_mixed and one.islower() and other.isupper())
        score -= 0.7 * (is_mixed and main not in _WIDE and (_script(one) or "LATIN") != (_script(other) or "LATIN"))
    return score / len(foreign)


def _worth(char: str, script: str, main: str, *, is_wide: bool) -> float:
    if not script:
        return 0.6 if char in _QUOTES else -1.0 if unicodedata.category(char) in ("Cc", "Co", "Cn") else -0.4
    if is_wide:
        if script not in _WIDE:
            return -0.5
        if _HALFWIDTH[0] <= char <= _HALFWIDTH[1]:
            return 0.5  # one byte each: the bytes of other encodings read as these
        # Kana do not occur by chance; ideographs do, and rare syllables of Hangul, in which ideographs are rare today.
        if script == "HANGUL":
            return 1.0 if char in _FREQUENT["HANGUL"] else 0.7
        if main == "HANGUL":
            return -0.3
        if script != "HAN" or char in _FREQUENT["HAN"]:
            return 1.0
        return 0.6 if char in _common_ideographs() else -0.3
    if script != main:
        return -0.5
    if script == "LATIN":
        return 0.9 if char in _LATIN else -0.3
    return (1.0 if char.lower() in _FREQUENT.get(script, ()) else 0.5) - 0.3 * char.isupper()


@lru_cache(maxsize=1)
def _common_ideographs() -> frozenset[str]:
    """Return the ideographs of the first level of GB 2312 and of Big5, which are ordered by frequency of use."""
    first = [bytes((high, low)) for high in range(0xB0, 0xD8) for low in range(0xA1, 0xFF)]
    second = [bytes((high, low)) for high in range(0xA4, 0xC7) for low in (*range(0x40, 0x7F), *range(0xA1, 0xFF))]
    third = [bytes((high, low)) for high in range(0xB0, 0xD0) for low in range(0xA1, 0xFF)]
    tables = ((first, "gb2312"), (second, "big5"), (third, "euc-jp"))
    return frozenset(code.decode(name, "ignore") for codes, name in tables for code in codes)


@lru_cache(maxsize=2**14)
def _script(char: str) -> str:
    """Return the script of a letter by its Unicode name; empty for ASCII and for no letter."""
    if char <= "\x7f" or not char.isalpha():
        return ""
    first = unicodedata.name(char, "").partition(" ")[0]
    if first == "CJK":
        return "HAN"
    return "KATAKANA" if first == "HALFWIDTH" else first
