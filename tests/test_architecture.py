"""The layers, the imports and the types of the public names, enforced; ``tests.architecture`` measures them."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import PACKAGE, SOURCE, external_imports

MODULES = sorted(PACKAGE.rglob("*.py"))
OURS = {"transformer_foundry", *sys.stdlib_module_names}
AT_THE_TOP = OURS | {"click", "kedro", "kedro_datasets", "markupsafe", "numpy", "omegaconf", "pluggy", "yaml"}
KEDRO_LOADS = {"fsspec", "jinja2", "pydantic"}
MAY_IMPORT_TORCH = ("core/models", "core/checks", "core/training", "core/data", "core/export", "core/evaluation",
                    "core/studies", "core/publishing", "core/system", "core/files")  # fmt: skip
COPIED_INTO_PACKAGES = ("core/export/transformers_code/configuration_foundry.py",
                        "core/export/transformers_code/modeling_foundry.py",
                        "core/publishing/package/templates/server/server_limits.py",
                        "core/publishing/package/templates/server/server_openai.py")  # fmt: skip


def libraries(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def imported_under(folder: Path) -> set[str]:
    return {name for path in folder.rglob("*.py") for name in libraries(external_imports(path))}


TRACKERS = imported_under(PACKAGE / "hooks" / "tracking") - OURS
KEDRO_SIDE = {"kedro", "kedro_datasets", "google", *TRACKERS}


def test_an_import_leads_to_a_lower_layer() -> None:
    assert architecture.upward_imports() == []


def test_no_part_reaches_one_that_it_may_not_even_through_others() -> None:
    assert architecture.forbidden_paths() == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert architecture.circles(architecture.graph()) == []


def test_no_sibling_folders_import_each_other_in_a_circle() -> None:
    assert architecture.folder_circles() == []


def test_a_circle_is_found() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("ad"), "d": frozenset("e"), "e": frozenset()}
    assert architecture.circles(graph) == [["a", "b", "c"]]


def test_a_folder_has_as_many_entries_as_a_reader_takes_in() -> None:
    assert architecture.crowded_folders() == {}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("core/**/*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_core_knows_neither_kedro_nor_a_tracker(path: Path) -> None:
    assert libraries(external_imports(path)) & KEDRO_SIDE == set()


def test_the_trackers_are_found() -> None:
    assert "wandb" in TRACKERS
    assert "torch" not in TRACKERS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    part = path.relative_to(PACKAGE).as_posix()
    allowed = AT_THE_TOP | ({"torch", "pandas"} if part.startswith(MAY_IMPORT_TORCH) else set())
    if part not in COPIED_INTO_PACKAGES:
        assert libraries(architecture.top_level_imports(path)) <= allowed


@pytest.mark.parametrize("part", ["models", "checks", "training"])
def test_the_validation_notebook_needs_only_what_colab_has(part: str) -> None:
    allowed = {"torch", "numpy", "pandas", "matplotlib", "transformer_foundry", "__future__"} | sys.stdlib_module_names
    for path in (PACKAGE / "core" / part).rglob("*.py"):
        assert {name.split(".")[0] for name in architecture.top_level_imports(path)} <= allowed, path


def test_registering_the_pipelines_loads_no_heavy_library() -> None:
    lazy = sorted(imported_under(PACKAGE) - AT_THE_TOP - KEDRO_LOADS)
    program = (
        "import json, sys\n"
        "from transformer_foundry.pipeline_registry import register_pipelines\n"
        "import transformer_foundry.settings\n"
        "names = sorted(register_pipelines())\n"
        f"print(json.dumps([names, [name for name in {lazy!r} if name in sys.modules]]))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names, loaded = json.loads(answer.stdout.splitlines()[-1])
    assert names == ["__default__", "comparison", "data_engineering", "deployment", "training", "tuning", "validation"]
    assert "torch" in lazy
    assert loaded == []


@pytest.mark.parametrize("facade", sorted(architecture.facades()))
def test_every_public_name_exists(facade: str) -> None:
    module = importlib.import_module(f"transformer_foundry.{facade}")
    assert module.__all__ == sorted(architecture.facades()[facade])
    assert [name for name in module.__all__ if getattr(module, name) is None] == []
    assert dir(module) == module.__all__


def test_a_name_that_a_facade_has_not_is_an_error() -> None:
    from transformer_foundry.core import training

    with pytest.raises(AttributeError, match=r"'transformer_foundry.core.training' has no attribute 'fitt'"):
        training.fitt  # noqa: B018


@pytest.mark.slow
def test_the_types_of_the_public_names_reach_the_caller(tmp_path: Path) -> None:
    lines = ["import transformer_foundry.core.training as training"]
    for facade, names in sorted(architecture.facades().items()):
        lines.append(f"import transformer_foundry.{facade}")
        lines += [f"reveal_type(transformer_foundry.{facade}.{name})" for name in sorted(names)]
    lines += ["training.fit(1, 2, nonsense=3)", "training.no_such_name"]
    found = mypy("\n".join(lines) + "\n", tmp_path)
    revealed = [line for line in found if "Revealed type is" in line]
    assert len(revealed) == sum(map(len, architecture.facades().values()))
    assert [line for line in revealed if re.search(r'Revealed type is "(Any|def \(\*args: Any)', line)] == []
    assert any('Unexpected keyword argument "nonsense"' in line for line in found)
    assert any('has no attribute "no_such_name"' in line for line in found)


def mypy(program: str, folder: Path) -> list[str]:
    """Return what mypy prints of ``program`` with the project's settings."""
    path = folder / "caller.py"
    path.write_text(program, encoding="utf-8")
    # The cache is that of `make lint`, which has typed the package a moment ago.
    command = [sys.executable, "-m", "mypy", "--no-pretty", str(path)]
    environment = {"MYPYPATH": str(SOURCE), "PATH": "", "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, cwd=architecture.PROJECT, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("heading", architecture.LONGEST_PATHS)
def test_the_files_to_read_for_one_story_are_few_and_exist(heading: str) -> None:
    files = architecture.reading_paths()[heading]
    assert 0 < len(files) <= architecture.LONGEST_PATHS[heading]
    assert [name for name in files if not (PACKAGE / name).is_file()] == []


def test_hooks_can_be_registered_by_a_pluggy_that_reads_properties_too() -> None:
    # Pluggy before 1.7, which Colab has, calls getattr for every name of a plugin, before anything was run.
    from transformer_foundry.settings import HOOKS

    assert [name for hook in HOOKS for name in dir(hook) if not hasattr(hook, name)] == []
