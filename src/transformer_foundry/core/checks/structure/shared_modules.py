"""Check that layers with different names, or different places in a list, are different objects."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from torch import nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.source_map import SourceLine

__all__ = ["check_shared_modules"]

# Words of settings and classes that announce shared layers, and of those that mean shared tables only.
ANNOUNCED = ("share", "albert", "universal", "recurren", "loop", "tie_layers", "tied_layers")
TABLES = ("emb", "vocab", "weights", "lm_head")


def check_shared_modules(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that no layer or weight is used under two names: the two would be equal, and learn as one."""
    names = [str(key) for key, value in subject.config.items() if value]
    names += [type(module).__name__ for module in subject.model.modules()]
    words = [name.lower() for name in names]
    if any(word in name and not any(part in name for part in TABLES) for name in words for word in ANNOUNCED):
        return
    paths: dict[int, list[str]] = {}
    for path, module in subject.model.named_modules(remove_duplicate=False):
        if path and _learns(module):
            paths.setdefault(id(module), []).append(path)
    calls = Counter(call.module for call in subject.trace.modules)
    for names in paths.values():
        pair = _declared_apart(subject, names)
        if pair is not None and sum(calls[name] for name in names) > 1:
            yield _shared(subject, *pair)
            return
    yield from _tied_layers(subject)


def _learns(module: nn.Module) -> bool:
    """Return whether a module has weights of its own kind: tables are shared on purpose."""
    owners = [child for child in module.modules() if next(child.parameters(recurse=False), None) is not None]
    return bool(owners) and not all(isinstance(owner, nn.Embedding) for owner in owners)


def _declared_apart(subject: ModelUnderTest, names: list[str]) -> tuple[str, str] | None:
    """Return two names of one object that are declared as two: items of a list, attributes, parts of siblings."""
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            above_first, above_second = first.rpartition(".")[0], second.rpartition(".")[0]
            one, other = subject.locator.modules[above_first], subject.locator.modules[above_second]
            if one is other:
                if above_first == above_second:  # Under a shared parent everything is shared.
                    return first, second
            elif not _is_above(above_first, above_second) and not _is_above(above_second, above_first):
                return first, second  # Otherwise a short name for a module inside another.
    return None


def _is_above(path: str, other: str) -> bool:
    return not path or other == path or other.startswith(f"{path}.")


def _shared(subject: ModelUnderTest, first: str, second: str) -> Finding:
    owner, _, attribute = second.rpartition(".")
    items = subject.locator.modules[owner]
    kind = type(subject.locator.modules[second]).__name__
    if isinstance(items, nn.ModuleList | nn.Sequential):
        count = len({id(item) for item in items})
        what = (
            f"{owner} has {len(items)} layers, but only {count} {'object' if count == 1 else 'objects'}: {first} and "
            f"{second} are the same {kind}. They share their weights and get the sum of both gradients"
        )
        location = subject.locator.module(second)
    else:
        what = (
            f"{first} and {second} are one object ({kind}) under two names: they share their weights and get the sum "
            "of both gradients"
        )
        location = subject.locator.attribute(owner, attribute)
    return finding_at(
        "shared weights",
        "warning",
        f"{what}, where several layers are declared.",
        location,
        "create a module for each: [Layer(...) for _ in range(n)] instead of [Layer(...)] * n, or copy.deepcopy(layer) "
        'in a loop; if the weights are shared on purpose, say so in config.json ("share_layers": true).',
    )


def _tied_layers(subject: ModelUnderTest) -> Iterator[Finding]:
    """Find a matrix that two different layers share: the same place in two items of a list."""
    owners: dict[int, list[str]] = {}
    for name, parameter in subject.model.named_parameters(remove_duplicate=False):
        if parameter.ndim > 1:
            owners.setdefault(id(parameter), []).append(name)
    for names in owners.values():
        first, second = names[0], names[-1]
        one, other = (subject.locator.modules[name.rpartition(".")[0]] for name in (first, second))
        numbered = ["".join("#" if part.isdigit() else part for part in name.split(".")) for name in (first, second)]
        if first != second and numbered[0] == numbered[1] and one is not other and not isinstance(one, nn.Embedding):
            yield finding_at(
                "shared weights",
                "warning",
                f"{first} and {second} are one weight in {len(names)} layers: the layers are equal there and learn as "
                "one, where several are declared.",
                _tying_line(subject, second) or subject.locator.module(second.rpartition(".")[0]),
                'give each layer its own weight; if it is shared on purpose, say so in config.json ("share_layers": '
                "true).",
            )
            return


def _tying_line(subject: ModelUnderTest, name: str) -> Location | None:
    """Return the line that assigns another module's weight to ``X.ATTRIBUTE.weight``."""
    ending = ".".join(part for part in name.split(".")[-2:])
    for path, file in subject.source.files.items():
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Assign) and any(ast.unparse(item).endswith(ending) for item in node.targets):
                return subject.locator.at(SourceLine(path, node.lineno), name.rpartition(".")[0])
    return None
