from __future__ import annotations

import pytest

from transformer_foundry.core.data.corpus.text_quality import UNKNOWN_LANGUAGE, TextQuality, guess_language


def troubles(*texts):
    quality = TextQuality()
    for text in texts:
        quality.add(text)
    return {name: found["texts"] for name, found in quality.report()["troubles"].items()}


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It was the best of times, it was the worst of times, it was the age of wisdom."),
        (
            "de",
            "Jemand musste Josef K. verleumdet haben, denn ohne dass er etwas Böses getan hätte, wurde er verhaftet.",
        ),
        ("fr", "Longtemps, je me suis couché de bonne heure, et les yeux se fermaient si vite."),
        ("es", "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía."),
        ("Cyrillic script", "любить дружить"),
        ("Japanese", "吾輩は猫である。名前はまだ無い。"),
        ("Korean", "모든 인간은 태어날 때부터 자유롭다."),
        (None, "def f(x): return x + 1  # 0x1F"),
        (None, ""),
        (None, "e2e4 c7c5 g1f3 d7d6 d2d4 c5d4 f3d4 g8f6 b1c3 a7a6"),
        (None, "1. d4 d5 2. c4 c6 3. Nf3 Nf6 4. Nc3 dxc4 5. a4 e5"),
        (None, "a c g t t a c a g c t a c c a"),
    ],
)
def test_languages_are_guessed(language, text):
    assert guess_language(text) == language


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        ("replacement characters", "caf\ufffd au lait"),
        ("wrongly decoded characters", "Zürich, café".encode().decode("cp1252")),
        ("wrongly decoded characters", "it\u2019s".encode().decode("cp1252")),
        ("wrongly decoded characters", "“quoted”".encode("cp1252").decode("latin-1")),
        ("Python's form of bytes", str("Zürich is near".encode())),
        ("control characters", "null \x00 byte"),
        ("marks of the end of a document", "the end.\n<|endoftext|>\nAnother"),
        ("marks of the end of a document", "the end.</s>"),
        ("HTML", "<p class='x'>text</p> &amp; more"),
    ],
)
def test_troubles_are_found(trouble, text):
    assert troubles("all is well", text) == {trouble: 1}


@pytest.mark.parametrize(
    "text",
    ["Zürich, São Paulo, Ångström", "if a < b and c > d: pass", "tabs\tand\r\nlines\f", "data = (\n    b'ab'\n)"],
)
def test_sound_texts_have_no_trouble(text):
    assert troubles(text) == {}


def test_shares_are_of_the_texts_looked_at():
    quality = TextQuality()
    for number in range(40_000):
        quality.add("\ufffd" if number % 2 else "sound")
    report = quality.report()
    assert report["examined"] == 20_000 + 20_000 // 16
    assert 0.4 < report["troubles"]["replacement characters"]["share"] < 0.6


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Das ist nicht der Weg, den ich mit dir gehe.", "de"),
        ("Þetta er ekki vegurinn sem ég fer með þér.", "is"),
        ("これは長い文章です。", "ja"),
        ("ACGTTTGACA", None),
    ],
)
def test_lingua_names_languages_where_it_is_installed(text, language):
    pytest.importorskip("lingua")
    quality = TextQuality()
    quality.add(text)
    report = quality.report()
    assert (report["languages_by"], list(report["languages"])) == ("lingua", [language or UNKNOWN_LANGUAGE])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<a href='b'>c</a>", "HTML"),
        ("one<br/>two", "HTML"),
        ("<p>", "HTML"),
        ("From: Hugo <a@example.org>", None),
        ("<p.q@example.org>", None),
        ("<td:x>", None),
        ("\x1b[31mred\x1b[0m", "terminal color codes"),
        ("one\x0btwo", "control characters"),
        ("\x1bone", "control characters"),
    ],
)
def test_a_problem_is_called_what_it_is(text, problem):
    quality = TextQuality()
    quality.add(text)
    assert list(quality.report()["troubles"]) == ([] if problem is None else [problem])
