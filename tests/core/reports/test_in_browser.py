"""The report in a real browser: nothing goes wrong, nothing is fetched, nothing is wider than a phone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.core.publishing.browser import CHROMIUM, open_browser
from tests.core.reports.runs import FILES, with_every_text, write_run
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.reports import read_run, write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")

WIDTHS = (390, 1100)
# Text that cannot be broken, and script in every place: what the browser did with it, it says in its title or log.
ATTACK = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">" + "w" * 300

LOOK = """({
  title: document.title,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  ground: getComputedStyle(document.body).backgroundColor,
  curves: [...document.querySelectorAll('polyline')].filter(line => line.getBoundingClientRect().width > 100).length,
  hidden: [...document.querySelectorAll('section')].filter(part => part.getBoundingClientRect().height < 20).length,
})"""


async def look_at(path: Path, pictures: Path) -> tuple[dict[tuple[int, str], Any], list[str], list[str]]:
    """Open the report at each width in light and dark; what was seen, what went wrong, what was asked for."""
    seen = {}
    async with open_browser() as browser:
        await browser.call("Log.enable")
        await browser.open(path.as_uri())
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                await browser.look(pictures / f"{width}-{scheme}.png", width=width, scheme=scheme)
                seen[width, scheme] = await browser.run(LOOK)
        return seen, browser.errors, browser.requested


@pytest.mark.parametrize("is_attacked", [False, True], ids=["plain", "attacked"])
@pytest.mark.slow
def test_it_renders_without_errors_on_a_phone_and_a_desk_light_and_dark(tmp_path: Path, is_attacked: bool) -> None:
    files = {name: with_every_text(content, ATTACK) for name, content in FILES.items() if isinstance(content, dict)}
    path = write_report(read_run(RunPaths.under(write_run(tmp_path, FILES | files if is_attacked else FILES), "gpt")))
    assert path is not None
    seen, errors, requested = asyncio.run(look_at(path, tmp_path))
    assert errors == []
    assert requested == [path.as_uri()]
    for view in seen.values():
        assert view["title"].endswith("Transformer Foundry")
        assert view["overflow"] <= 0
        assert (view["hidden"], view["curves"]) == (0, 9)
    for width in WIDTHS:
        assert seen[width, "light"]["ground"] != seen[width, "dark"]["ground"]
        pictures = [(tmp_path / f"{width}-{scheme}.png").read_bytes() for scheme in ("light", "dark")]
        assert pictures[0] != pictures[1]
