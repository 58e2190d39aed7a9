"""Templates escape every value, redact secrets, and leave nothing where there is nothing to show."""

from __future__ import annotations

import pytest

from transformer_foundry.core.reports.rendering import _environment, render, render_chip


def filled(source: str, **values: object) -> str:
    return _environment().from_string('{% import "widgets.html" as w %}' + source).render(**values).strip()


def test_a_value_is_text_and_never_markup() -> None:
    assert filled("{{ value }}", value="<b> & 'c'") == "&lt;b&gt; &amp; &#39;c&#39;"
    assert str(render_chip("<i>", "good")) == '<span class="chip good">&lt;i&gt;</span>'


def test_a_value_in_a_table_is_text_and_never_markup() -> None:
    assert "<td>&lt;b&gt;</td>" in filled('{{ w.table(["a", "b"], [["x", value]]) }}', value="<b>")


def test_control_characters_are_shown_as_pictures_and_broken_pairs_replaced() -> None:
    assert filled("{{ value }}", value="a\x00b\x7fc\td\ud800") == "a\u2400b\u2421c\td?"


def test_a_secret_is_redacted_wherever_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    source = "{{ value }}{{ w.facts({'name': value}) }}{{ w.findings([{'severity': 'info', 'message': value}]) }}"
    shown = filled(source, value="<correct-horse-battery>")
    assert shown.count("&lt;[redacted]&gt;") == 3
    assert "horse" not in shown


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("https://a.b/x&y?z=1", '<a href="https://a.b/x&amp;y?[redacted]" rel="noreferrer">name</a>'),
        ("./a b/c:d", '<a href="./a%20b/c%3Ad">name</a>'),
        ("javascript:boom()", "name"),
        ("data:text/html,x", "name"),
    ],
)
def test_only_web_pages_and_local_paths_become_links(address: str, link: str) -> None:
    assert filled('{{ w.link(address, "name") }}', address=address) == link


@pytest.mark.parametrize(
    "source",
    ["{{ w.facts({'a': none, 'b': '', 'c': missing}) }}", "{{ w.table(['a'], []) }}", "{{ w.findings(3) }}",
     "{{ w.charts([]) }}", "{{ w.texts([]) }}", "{% call w.details('a') %} {% endcall %}", "{{ missing.part.of.it }}"],
)  # fmt: skip
def test_nothing_is_shown_where_nothing_is_known(source: str) -> None:
    assert filled(source) == ""


def test_a_long_text_is_cut_in_a_table() -> None:
    assert filled("{{ w.table(['a', 'b'], [['x', value]]) }}", value="z" * 5000).count("z") == 4000


def test_the_page_without_sections_is_a_whole_document() -> None:
    page = render("report.html", name="run", chips=[], tiles={}, sections=[], subtitle="", written_at="now")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
