from __future__ import annotations

import pytest

from transformer_foundry.core.data.corpus.text_quality import TextQuality, guess_language


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
        ("control characters", "null \x00 byte"),
        ("HTML", "<p class='x'>text</p> &amp; more"),
    ],
)
def test_troubles_are_found(trouble, text):
    assert troubles("all is well", text) == {trouble: 1}


@pytest.mark.parametrize("text", ["Zürich, São Paulo, Ångström", "if a < b and c > d: pass", "tabs\tand\r\nlines\f"])
def test_sound_texts_have_no_trouble(text):
    assert troubles(text) == {}


def test_shares_are_of_the_texts_looked_at():
    quality = TextQuality()
    for number in range(40_000):
        quality.add("\ufffd" if number % 2 else "sound")
    report = quality.report()
    assert report["examined"] == 20_000 + 20_000 // 16
    assert 0.4 < report["troubles"]["replacement characters"]["share"] < 0.6
