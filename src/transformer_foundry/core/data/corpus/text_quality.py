"""Quality of raw texts: broken encoding, markup, languages."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = ["UNKNOWN_LANGUAGE", "TextQuality", "guess_language"]

UNKNOWN_LANGUAGE = "none recognised"  # spelled as in the profiles of earlier versions

_ALL_UP_TO = 20_000  # documents that are all examined
_EVERY = 16  # of the other documents, one in this many is examined
_LANGUAGES_OF = 2_000  # documents
_CHARACTERS = 4_000  # of each document
_MIN_WORDS = 5
_FUNCTION_WORD_SHARE = 0.1  # running text of these languages has 25 to 50 %; code and lists of names have less
# Related languages share function words ("la", "un", "a"): without a lead, a short text could be in any of them.
_AHEAD = 2  # function words
_AHEAD_TIMES = 1.25
_CLEAR_DISTANCE = 0.2  # of the likeliest language from the next one; below it, lingua gives none

_PROBLEMS = {
    # The replacement character U+FFFD, written where a character could not be decoded.
    "replacement characters": re.compile("\ufffd"),
    # UTF-8 that was read as Latin-1 or Windows-1252 and written again: "Ã¼", "â€™", "Â "; and the quotes and dashes of
    # Windows-1252 that were read as Latin-1, where these bytes are control characters.
    "wrongly decoded characters": re.compile(
        "\u00c3[\u0080-\u00bf\u0192\u2018-\u201e\u2020-\u2022\u20ac\u2122]|\u00e2\u20ac|\u00c2[\u0080-\u00bf]|\u00ef\u00bb\u00bf"
        "|[\u0080-\u0084\u0086-\u009f]"
    ),
    # As Python prints bytes, mostly written to a csv by mistake.
    "Python's form of bytes": re.compile(r"^b(['\"]).+\1$", re.MULTILINE),
    "terminal color codes": re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"),
    "control characters": re.compile(r"(?!\x1b\[[0-9;?]*[A-Za-z])[\x00-\x08\x0b\x0e-\x1f\x7f]"),
    # Written between documents by programs that joined them: as text, they are learned letter by letter.
    "marks of the end of a document": re.compile(r"<\|end_?of_?text\|>|</s>|<eos>|<\|eos\|>", re.IGNORECASE),
    "HTML": re.compile(
        r"</?(?:p|br|div|span|a|td|tr|li|ul|html|body|script)(?:\s[^<>]{0,200})?/?>|&(?:amp|lt|gt|nbsp|quot|#\d+);"
    ),
}
_FUNCTION_WORDS = {
    "da": "og det er en at til af på som med for ikke den har de jeg et var han men",
    "de": (
        "der die und das ist nicht ein ich zu den mit sich auf eine von es dem wie für auch er dass ohne "
        "wurde im sie wir ihr aber am bei nach noch nur oder so sind hat haben war wird zum zur vor an als"
    ),
    "en": (
        "the of and to a in is that it for was on are as with be this not or from at you i we he she they "
        "have has had but by an into until then your my if all there their which will can what when who her "
        "his him were been more no about out so do some like just me than"
    ),
    "es": (
        "de la que el en y los se del las por un con una su para es no lo como me mi pero más al este esta "
        "eso o si ha muy todo cuando yo le está son"
    ),
    "fi": "ja on ei se että oli hän mutta ovat kun niin myös joka mitä tai kuin sen olla vain minä",
    "fr": (
        "de la le et les des en un du une que est pour qui dans sur pas ne au il à aux avec ce cette ces par "
        "plus mais je tu nous vous ils elle elles on son sa ses se sont été était ou où dont me mon ma si d l "
        "j c n s qu leur comme tout bien sans être avoir fait a très"
    ),
    "id": "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga saya ke adalah karena ada mereka oleh",
    "it": (
        "di che e la il un a per in una non sono è del le si con da della i ho mi ma come anche più gli lo "
        "nel alla questo ha al dei delle o se io era"
    ),
    "nl": "de en van het een in is dat op te zijn met voor niet aan er om ook als maar",
    "pl": "i w na z do się nie że to jest o jak po za od przez ale co dla są",
    "pt": (
        "de que o e a do da em um para com não uma os no se na por mais as eu ao mas seu sua é foi muito ele "
        "ela dos das isso está"
    ),
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
        self._guess, self._guessed_by = _choose_guess()

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
            self._languages[(self._guess(start) if _has_words(start) else None) or UNKNOWN_LANGUAGE] += 1

    def report(self) -> dict[str, Any]:
        """Return ``examined``, the share of documents with each problem, with an example, and in each language."""
        examined, known = max(self._examined, 1), max(self._languages.total(), 1)
        return {
            "examined": self._examined,
            "troubles": {
                name: {"texts": count, "share": round(count / examined, 4), "example": self._examples[name]}
                for name, count in self._problems.most_common()
            },
            "languages_by": self._guessed_by,
            "languages": {name: round(count / known, 4) for name, count in self._languages.most_common()},
        }


def _choose_guess() -> tuple[Callable[[str], str | None], str]:
    """Return what guesses the language of a text, and its name: lingua if it is installed."""
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError:
        return guess_language, "function words"
    return _lingua_guess(LanguageDetectorBuilder), "lingua"


@functools.cache  # the models are large
def _lingua_guess(builder: Any) -> Callable[[str], str | None]:
    detector = builder.from_all_languages().with_minimum_relative_distance(_CLEAR_DISTANCE).build()

    def guess(text: str) -> str | None:
        if len(re.findall(r"\w+", text[:1000])) < _MIN_WORDS and text.isascii():
            return None
        found = detector.detect_language_of(text[:1000])
        return None if found is None else str(found.iso_code_639_1.name).lower()

    return guess


def _has_words(text: str) -> bool:
    """Return whether most of what stands between blanks is words, unlike chess moves (e2e4), notes (C4 q) and bases."""
    pieces = text[:1000].split()
    words = sum(sum(map(str.isalpha, piece)) > 1 and not any(map(str.isdigit, piece)) for piece in pieces)
    return len(pieces) < _MIN_WORDS or words > len(pieces) / 2


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
    hits = Counter({code: sum(word in known for word in words) for code, known in _LANGUAGE_SETS.items()})
    (best, most), (_, next_most) = hits.most_common(2)
    # Single letters are function words ("a", "y"), but also names of squares, notes and bases.
    is_prose = len({word for word in words if len(word) > 1 and word in _LANGUAGE_SETS[best]}) > 1
    is_clear = is_prose and most >= next_most + _AHEAD and most >= _AHEAD_TIMES * next_most
    return best if is_clear and most >= _FUNCTION_WORD_SHARE * len(words) else None
