"""Quality of raw texts: broken encoding, markup, languages."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Any

__all__ = ["UNKNOWN_LANGUAGE", "TextQuality", "guess_language"]

UNKNOWN_LANGUAGE = "none recognised"  # spelled as in the profiles of earlier versions

_ALL_UP_TO = 20_000  # documents that are all examined
_EVERY = 16  # of the other documents, one in this many is examined
_LANGUAGES_OF = 2_000  # documents
_CHARACTERS = 4_000  # of each document
_MIN_WORDS = 5
_FUNCTION_WORD_SHARE = 0.1  # running text of these languages has 25 to 50 %; code and lists of names have less

_PROBLEMS = {
    # The replacement character U+FFFD, written where a character could not be decoded.
    "replacement characters": re.compile("\ufffd"),
    # UTF-8 that was read as Latin-1 or Windows-1252 and written again: "Ã¼", "â€™", "Â ".
    "wrongly decoded characters": re.compile(
        "\u00c3[\u0080-\u00bf\u0192\u2018-\u201e\u2020-\u2022\u20ac\u2122]|\u00e2\u20ac|\u00c2[\u0080-\u00bf]|\u00ef\u00bb\u00bf"
    ),
    "control characters": re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]"),
    "HTML": re.compile(
        r"</?(?:p|br|div|span|a|td|tr|li|ul|html|body|script)\b[^<>]{0,200}>|&(?:amp|lt|gt|nbsp|quot|#\d+);"
    ),
}
_FUNCTION_WORDS = {
    "da": "og det er en at til af på som med for ikke den har de jeg et var han men",
    "de": "der die und das ist nicht ein ich zu den mit sich auf eine von es dem wie für auch er dass ohne wurde im",
    "en": "the of and to a in is that it for was on are as with be this not or from",
    "es": "de la que el en y los se del las por un con una su para es no lo como",
    "fi": "ja on ei se että oli hän mutta ovat kun niin myös joka mitä tai kuin sen olla vain minä",
    "fr": "de la le et les des en un du une que est pour qui dans sur pas ne au il",
    "id": "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga saya ke adalah karena ada mereka oleh",
    "it": "di che e la il un a per in una non sono è del le si con da della i",
    "nl": "de en van het een in is dat op te zijn met voor niet aan er om ook als maar",
    "pl": "i w na z do się nie że to jest o jak po za od przez ale co dla są",
    "pt": "de que o e a do da em um para com não uma os no se na por mais as",
    "sv": "och att det i som en på är av för med den till inte har om ett han men var",
    "tr": "bir ve bu da de için ile çok ne gibi daha olarak var kadar olan ama ben sonra o mi",
    "vi": "là và của có không được cho một các trong với người này những đã để khi từ về ở",
}
_LANGUAGE_SETS = {code: frozenset(words.split()) for code, words in _FUNCTION_WORDS.items()}
_SCRIPTS = {
    "CJK": "Chinese or Japanese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "CYRILLIC": "Cyrillic script",
    "ARABIC": "Arabic script",
    "HEBREW": "Hebrew",
    "GREEK": "Greek",
    "DEVANAGARI": "Devanagari script",
    "THAI": "Thai",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
}


class TextQuality:
    """Counts problems of texts that are added one by one: the first 20,000 are examined, then one in 16."""

    def __init__(self) -> None:
        self._seen = self._examined = 0
        self._problems: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Add the next text."""
        self._seen += 1
        if not text or (self._seen > _ALL_UP_TO and self._seen % _EVERY):
            return
        self._examined += 1
        start = text[:_CHARACTERS]
        for name, pattern in _PROBLEMS.items():
            found = pattern.search(start)
            if found:
                self._problems[name] += 1
                self._examples.setdefault(name, start[max(0, found.start() - 20) : found.end() + 20])
        if self._languages.total() < _LANGUAGES_OF:
            self._languages[guess_language(start) or UNKNOWN_LANGUAGE] += 1

    def report(self) -> dict[str, Any]:
        """Return ``examined``, the share of documents with each problem, with an example, and in each language."""
        examined, known = max(self._examined, 1), max(self._languages.total(), 1)
        return {
            "examined": self._examined,
            "troubles": {
                name: {"texts": count, "share": round(count / examined, 4), "example": self._examples[name]}
                for name, count in self._problems.most_common()
            },
            "languages": {name: round(count / known, 4) for name, count in self._languages.most_common()},
        }


def guess_language(text: str) -> str | None:
    """Guess the language by script and function words; None if neither is conclusive, as in code or lists of names.

    Example:
        >>> guess_language("Das ist nicht der Weg, den ich mit dir gehe.")
        'de'
    """
    letters = [character for character in text[:1000] if character.isalpha()]
    scripts = Counter(unicodedata.name(character, "?").split(" ")[0].split("-")[0] for character in letters[:200])
    script, count = scripts.most_common(1)[0] if scripts else ("?", 0)
    if script != "LATIN":
        if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.05 * scripts.total():
            return "Japanese"
        return _SCRIPTS.get(script) if count > 0.5 * scripts.total() else None
    words = re.findall(r"[^\W\d_]+", text.lower())
    if len(words) < _MIN_WORDS:
        return None
    shares = {code: sum(word in known for word in words) / len(words) for code, known in _LANGUAGE_SETS.items()}
    best = max(shares, key=lambda code: shares[code])
    return best if shares[best] >= _FUNCTION_WORD_SHARE else None
