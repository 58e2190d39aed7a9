"""Generate the reference page of the parameters from the dataclasses that check them and the presets in conf/."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import yaml
from markup import escaped

from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.config.presets import PRESETS, QUICK, preset_files
from transformer_foundry.core.base.options import describe_limits, describe_type

__all__ = ["parameters_page"]

CONF = Path(__file__).resolve().parents[2] / "conf"
INTRODUCTION = """# Parameters

Set them in `conf/local/parameters.yml` or on the command line: `kedro run --params training.max_steps=2000`. Set \
lists and mappings in the file; lists of names also work on the command line: `"benchmark.models=[a,b]"`. \
`preset=standard` and `preset=thorough` train longer; their values are listed where they differ from the \
quick default. \
What you set in `conf/local` or with `--params` counts on top of a preset.

This page is generated from the declarations that check the values, and from the presets.

## data_dir

### `data_dir` {{ #data_dir }}

Root of all output.

Default `{data_dir}` · text

## preset

### `preset` {{ #preset }}

Set of values between `conf/base` and `conf/local`: `conf/base/presets/NAME.yml`, or a preset of your own in \
`conf/local/presets/NAME.yml`.

Default `{preset}` · one of {presets}
"""


def parameters_page() -> str:
    """Return the page: one section per section of the parameters, one entry per parameter."""
    base = _values("parameters*.yml")
    presets = {name: _values(preset_files(name)[0]) for name in PRESETS if name != QUICK}
    names = ", ".join(map(_shown, PRESETS))
    parts = [INTRODUCTION.format(data_dir=base["data_dir"], preset=base["preset"], presets=names)]
    for section, options_class in SECTIONS.items():
        parts.append(f"## {section}\n\n{_first_sentence(options_class.__doc__)}\n")
        hints = typing.get_type_hints(options_class)
        for field in dataclasses.fields(options_class):
            key = f"{section}.{field.name}"
            default = base.get(key, _declared_default(field))
            others = {name: values[key] for name, values in presets.items() if values.get(key, default) != default}
            parts.append(_entry(key, field.metadata, hints[field.name], default, others))
    return "\n".join(parts)


def _entry(key: str, metadata: typing.Mapping[str, Any], hint: Any, default: Any, others: dict[str, Any]) -> str:
    text = f"Default {_shown(default)}"
    if others:
        text += f" ({', '.join(f'{name} {_shown(value)}' for name, value in others.items())})"
    allowed = describe_type(hint)
    if metadata["choices"] is not None:
        allowed = "one of " + ", ".join(_shown(choice) for choice in metadata["choices"])
        allowed += " or null" if type(None) in typing.get_args(hint) else ""
    facts = [text, allowed, describe_limits(metadata), metadata["unit"]]
    line = " · ".join(fact for fact in facts if fact)
    return f"### `{key}` {{ #{key} }}\n\n{escaped(metadata['description'])}\n\n{line}\n"


def _declared_default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    words = {None: "null", True: "true", False: "false"}
    return f"`{words[value] if value is None or isinstance(value, bool) else value}`"


def _first_sentence(docstring: str | None) -> str:
    return (docstring or "").strip().split("\n\n")[0].split("\n")[0]


def _values(pattern: str) -> dict[str, Any]:
    """Return ``section.key -> value`` of the parameters in files of conf/base."""
    shared = yaml.safe_load((CONF / "base" / "globals.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for path in sorted((CONF / "base").glob(pattern)):
        text = re.sub(r"\$\{globals:(\w+)\}", lambda match: str(shared[match[1]]), path.read_text(encoding="utf-8"))
        for section, content in yaml.safe_load(text).items():
            if isinstance(content, dict):
                found |= {f"{section}.{key}": value for key, value in content.items()}
            else:
                found[section] = content
    return found
