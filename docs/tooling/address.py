"""Write the public address of the project where users need it: ``python docs/tooling/address.py OWNER/NAME [BRANCH]``.

Both notebooks then download the project and have a badge that opens them in Colab; README has the badges and
CITATION.cff the address. A second run replaces the address of the first.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ("template", "training")
_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
_BADGES = re.compile(rf"(\[!\[Open in Colab\]\({re.escape(_BADGE)}\)\]\(\S+\)\s*)+")


def badge(repository: str, branch: str, name: str) -> str:
    """Return the Markdown badge that opens a notebook in Colab."""
    return f"[![Open in Colab]({_BADGE})]({in_colab(repository, branch, name)})"


def in_colab(repository: str, branch: str, name: str) -> str:
    """Return the URL that opens a notebook of the project in Colab."""
    return f"https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{name}.ipynb"


def write_address(repository: str, branch: str, project: Path = PROJECT) -> None:
    """Write the address of ``repository`` into the notebooks, README and citation of ``project``.

    Args:
        repository: ``OWNER/NAME`` on GitHub; Colab opens the notebooks from it.
        branch: Branch that users get.
        project: Root of the clone.
    """
    archive = f"https://github.com/{repository}/archive/refs/heads/{branch}.zip"
    for name in NOTEBOOKS:
        path = project / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        title, form = notebook.cells[:2]
        title.source = f"{badge(repository, branch, name)}\n\n{_BADGES.sub('', title.source)}"
        form.source = re.sub(r'^ARCHIVE = "\S*"', f'ARCHIVE = "{archive}"', form.source, count=1, flags=re.MULTILINE)
        if name == "template":
            # Its last cell names the other notebook.
            pattern, place = r"(https:\S+/)?notebooks/training\.ipynb", in_colab(repository, branch, "training")
            notebook.cells[-1].source = re.sub(pattern, place, notebook.cells[-1].source)
        nbformat.write(notebook, path)
    readme = project / "README.md"
    badges = " ".join(badge(repository, branch, name) for name in NOTEBOOKS)
    text = _BADGES.sub("", readme.read_text(encoding="utf-8"))
    readme.write_text(text.replace("## Notebooks\n\n", f"## Notebooks\n\n{badges}\n\n", 1), encoding="utf-8")
    citation = project / "CITATION.cff"
    lines = [line for line in citation.read_text(encoding="utf-8").splitlines() if "repository-code" not in line]
    lines.append(f"repository-code: https://github.com/{repository}")
    citation.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not re.fullmatch(r"[\w.-]+/[\w.-]+", sys.argv[1]):
        raise SystemExit("error: expected OWNER/NAME. Run: make address REPO=alice/transformer-foundry")
    write_address(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else "main")
