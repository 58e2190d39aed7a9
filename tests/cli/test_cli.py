"""Commands print expected errors in a few lines; unexpected ones keep their traceback."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from transformer_foundry.cli import cli, readable_errors
from transformer_foundry.core.base.errors import DataError


def fail_with(error: BaseException) -> object:
    @readable_errors
    def command() -> None:
        raise error

    return command()


def test_an_expected_error_prints_its_lines_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        fail_with(DataError("a.csv is empty.", "Text was expected.", "Give another file."))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: a.csv is empty.\nText was expected.\nGive another file.\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        fail_with(ZeroDivisionError())


def test_foundry_debug_keeps_the_traceback_of_an_expected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_DEBUG", "1")
    with pytest.raises(DataError):
        fail_with(DataError("a.csv is empty."))


def test_an_interrupt_prints_how_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        fail_with(KeyboardInterrupt())
    assert caught.value.code == 130
    assert "again" in capsys.readouterr().err


# What Kedro's own commands say of themselves is Kedro's.
GROUPS = [
    item for item in cli.commands.values() if hasattr(item, "commands") and item.name not in ("catalog", "registry")
]


@pytest.mark.parametrize("group", [cli, *GROUPS])
def test_the_summary_of_each_command_fits_on_one_line(group: click.Group) -> None:
    listed = CliRunner().invoke(group, ["--help"]).output.split("Commands:")[1]
    assert "..." not in listed


def test_the_help_of_run_shows_the_presets_and_a_command_for_own_data() -> None:
    shown = CliRunner().invoke(cli, ["run", "--help"]).output
    assert "preset=standard and preset=thorough" in " ".join(shown.split())
    assert "  kedro run --params model.source=my_export,data.source=reviews.csv\n" in shown
