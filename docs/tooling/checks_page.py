"""Generate the reference page of the checks from their list and from the findings in their source."""

from __future__ import annotations

import ast
from pathlib import Path

from markup import escaped
from source_text import ALTERNATIVE, SOURCES, UNKNOWN, Call, calls

from transformer_foundry.core.checks.probing.finding import SEVERITIES
from transformer_foundry.core.models.error_meanings import KNOWN_ERRORS

__all__ = ["checks_page", "findings"]

CHECKS = SOURCES / "core" / "checks"
FINDINGS = frozenset({"Finding", "finding_at"})
BOXES = {"error": "danger", "warning": "warning", "info": "info"}
INTRODUCTION = """# Checks

All checks of `kedro run --pipelines validation` and `python -m transformer_foundry.core.checks EXPORT`, in the order \
in which they run. [Validation](../validation.md) explains the report. Words in CAPITALS stand for the values found in \
your model, `…` for further text. **error**: training is pointless or impossible. **warning**: training works, but \
worse than it could. **info**: worth knowing, not a problem.

This page is generated from the source of the checks.

## All checks

| check | tier | property | findings |
|---|---|---|---|
"""
BUILDING = "The model can be built and called; all other checks need this."


def checks_page() -> str:
    """Return the page: a table of the checks, then every finding with its meaning and fix."""
    by_name: dict[str, list[Call]] = {}
    for finding in findings():
        by_name.setdefault(finding.arguments[0], []).append(finding)
    rows = [f"| build | 1 | {BUILDING} | {_links(_names_of('build', None))} |"]
    rows += [
        f"| {name} | {tier} | {escaped(description)} | {_links(reported)} |"
        for name, tier, description, reported in _entries()
    ]
    parts = [INTRODUCTION + "\n".join(rows), "\n## Findings\n"]
    for name, found in by_name.items():
        parts.append(f"### {name} {{ #{_anchor(name)} }}\n")
        # A message that consists only of values has no text to show.
        parts += [_box(finding) for finding in found if finding.arguments[2].strip(f". {UNKNOWN}")]
    parts.append("## Exceptions in the model's code\n\nThe finding explains the exception:\n")
    parts.append("| meaning | fix |\n|---|---|")
    parts += [f"| {escaped(meaning)} | {escaped(fix)} |" for _, meaning, fix in KNOWN_ERRORS]
    return "\n".join(parts) + "\n"


def findings() -> list[Call]:
    """Return the findings of all checks, in the order of the checks, with the arguments of ``Finding``."""
    order = ["build", *dict.fromkeys(module for _, _, module, _ in _registered())]
    others = sorted({path.stem for path in CHECKS.rglob("*.py")} - {*order, "runner", "report", "__init__"})
    found = [call for module in order + others for call in calls(_path_of(module), FINDINGS)]
    return [call for call in found if call.arguments[0] != UNKNOWN]


def _path_of(module: str) -> Path:
    (path,) = CHECKS.rglob(f"{module}.py")
    return path


def _registered() -> list[tuple[str, int, str, str]]:
    """Return (name, tier, module, function) of each check in ``runner.CHECKS``, read without importing torch."""
    tree = ast.parse((CHECKS / "runner.py").read_text(encoding="utf-8"))
    listed = next(
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CHECKS"
    )
    assert isinstance(listed, ast.Tuple)
    found = []
    for item in listed.elts:
        assert isinstance(item, ast.Call)
        name, tier, check = item.args
        module, function = ast.unparse(check).split(".")
        found.append((ast.literal_eval(name), ast.literal_eval(tier), module, function))
    return found


def _entries() -> list[tuple[str, int, str, list[str]]]:
    return [
        (name, tier, _property(_path_of(module), function), _names_of(module, function))
        for name, tier, module, function in _registered()
    ]


def _property(path: Path, function: str) -> str:
    """Return the property that a check verifies: the first line of its docstring without "Check that"."""
    line = (ast.get_docstring(_functions(path)[function]) or "").split("\n")[0].removeprefix("Check that ")
    return line[:1].upper() + line[1:]


def _names_of(module: str, function: str | None) -> list[str]:
    """Return the names of the findings of ``function`` and of the functions of its module that it calls."""
    path = _path_of(module)
    found = list(calls(path, FINDINGS))
    reached = set(_functions(path)) if function is None else _reached(path, function)
    return list(dict.fromkeys(call.arguments[0] for call in found if call.function in reached))


def _reached(path: Path, function: str) -> set[str]:
    functions, reached, waiting = _functions(path), set[str](), [function]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in reached:
            reached.add(name)
            waiting += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    return reached


def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def _box(finding: Call) -> str:
    _, severity, message, *rest = finding.arguments
    stated = [name for name in SEVERITIES if name in severity.split(ALTERNATIVE)] or list(SEVERITIES[:2])
    fix = rest[1] if len(rest) > 1 else UNKNOWN
    lines = [f'!!! {BOXES[stated[0]]} "{" or ".join(stated)}"', f"    {escaped(message)}"]
    if fix.strip(f". {UNKNOWN}"):
        lines += ["", f"    **Fix:** {escaped(fix)}"]
    return "\n".join(lines) + "\n"


def _links(names: list[str]) -> str:
    return ", ".join(f"[{name}](#{_anchor(name)})" for name in names)


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
