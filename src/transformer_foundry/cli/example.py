"""Command that copies a sample model with data that it learns: ``kedro example``."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from transformer_foundry.cli.run_selection import require_known
from transformer_foundry.cli.tables import show_line, show_table
from transformer_foundry.console.command_line import with_values
from transformer_foundry.console.program import with_program
from transformer_foundry.core.base.errors import ParameterError

__all__ = ["example"]

_EXPORTS = Path("data/01_raw/exports")
_DEFAULT_FOLDER = Path("examples")
_RUN = "run.yml"
_VOCABULARY = 2048
"""With the 512 ids of the sample models a word of the profiles is two or three tokens, and samples have half words."""


@dataclass(frozen=True)
class _Example:
    """A sample model and the columns of its data.

    Attributes:
        export: Folder of the model in ``data/01_raw/exports``.
        task: Which documents of the profiles are written.
        columns: Columns of ``data.csv``: names, and the fields of a document that they hold.
        learns: What the model learns, for the list.
        config: Changed entries of ``config.json``.
        parameters: Parameters of the run beside model and data.
    """

    export: str
    task: str
    columns: Mapping[str, str]
    learns: str
    config: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, str | float] = field(default_factory=dict)


_SIZED = {"vocab_size": _VOCABULARY}
_EXAMPLES = {
    "countries": _Example(
        "gpt",
        "causal_lm",
        {"text": "text"},
        "to write profiles of countries that do not exist",
        _SIZED,
        {"training.learning_rate": 0.003},
    ),
    "gaps": _Example("bert", "masked_lm", {"text": "text"}, "to fill in hidden words of a profile", _SIZED),
    "questions": _Example(
        "t5",
        "seq2seq_lm",
        {"question": "text", "answer": "target"},
        "to answer 'Climate of Chile, Southern South America' with a line of text",
        _SIZED,
    ),
    "regions": _Example(
        "classifier",
        "sequence_classification",
        {"text": "text", "region": "label"},
        "to tell the region of a country from its climate, goods and flag",
        parameters={
            "data.validation_share": 0.15,
            "data.test_share": 0.15,
            "training.learning_rate": 0.001,
            "training.max_steps": 200,
            "training.eval_steps": 25,
        },
    ),
}


@click.command(short_help="Copy a sample model with data to begin from.")
@click.argument("name", required=False)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def example(name: str | None, folder: Path | None) -> None:
    """Copy the example NAME into FOLDER: a model, data and parameters, and print the command that trains it.

    Without NAME, list the examples. FOLDER is examples/NAME by default.
    """
    if name is None:
        show_table(
            [("example", "model", "learns"), *((key, item.export, item.learns) for key, item in _EXAMPLES.items())]
        )
        show_line(with_program("Next: kedro example NAME"))
        return
    require_known("example", [name], list(_EXAMPLES), "'kedro example' lists them.")
    chosen, target = _EXAMPLES[name], folder or _DEFAULT_FOLDER / name
    rows = _copy(chosen, target)
    show_line(
        f"{target}: model.py, config.json, run.yml, and data.csv with {rows:,} rows ({', '.join(chosen.columns)})."
    )
    show_line(f"The model learns {chosen.learns}.")
    show_line(with_program(f"Train it: {shlex.join(['kedro', 'run', '--config', (target / _RUN).as_posix()])}"))
    show_line(
        "Make it yours: put your own rows into data.csv, or your own export in place of model.py and config.json."
    )


def _copy(chosen: _Example, target: Path) -> int:
    """Copy the model, write the data, and return the number of rows."""
    source = _EXPORTS / chosen.export
    if not source.is_dir():
        raise ParameterError(
            f"There is no {source} here.",
            "Expected the folder of a clone of the project, which has the sample models.",
            "Run the command there.",
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ParameterError(
            f"{target} exists already.",
            "Expected a folder that does not exist or is empty: nothing is overwritten.",
            "Name another folder: kedro example NAME FOLDER.",
        )
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "model.py", target / "model.py")
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | dict(chosen.config)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _write_run(chosen, target)
    return _write_table(chosen, target / "data.csv")


def _write_run(chosen: _Example, target: Path) -> None:
    """Write the parameters of the run, for ``--config``."""
    import yaml

    places = {"model.source": target.as_posix(), "data.source": (target / "data.csv").as_posix()}
    parameters = with_values({}, {**places, **chosen.parameters})
    text = yaml.safe_dump({"run": {"params": parameters}}, sort_keys=False)
    (target / _RUN).write_text(f"# Parameters of the run; others are on the page of parameters in the docs.\n{text}")


def _write_table(chosen: _Example, path: Path) -> int:
    from transformer_foundry.core.data.sources.built_in.countries import CountryProfiles

    documents = list(CountryProfiles(chosen.task).documents("train"))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(chosen.columns)
        writer.writerows([getattr(document, name) for name in chosen.columns.values()] for document in documents)
    return len(documents)
