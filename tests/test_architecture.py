"""The layer rule and the lazy imports of the design, enforced."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "transformer_foundry"
MODULES = sorted(PACKAGE.rglob("*.py"))

FORBIDDEN = {
    "core": ("kedro", "kedro_datasets", "wandb", "google.colab", "transformer_foundry.pipelines",
             "transformer_foundry.datasets", "transformer_foundry.hooks"),
    "pipelines": ("transformer_foundry.hooks", "transformer_foundry.datasets", "wandb", "google.colab"),
    "datasets": ("transformer_foundry.pipelines", "transformer_foundry.hooks", "wandb", "google.colab"),
    "hooks": ("transformer_foundry.pipelines",),
}  # fmt: skip

HEAVY = ("torch", "transformers", "datasets", "tokenizers", "optuna", "onnx", "onnxruntime", "onnxscript",
         "huggingface_hub", "wandb", "safetensors")  # fmt: skip
MAY_IMPORT_TORCH = ("core/models", "core/checks", "core/training", "core/data", "core/export",
                    "core/evaluation", "core/experiments", "core/publishing", "core/system", "core/files")  # fmt: skip


def imported_names(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def is_under(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0]
    wrong = [name for name in imported_names(ast.parse(path.read_text())) if is_under(name, FORBIDDEN.get(layer, ()))]
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    top_level = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    part = path.relative_to(PACKAGE).as_posix()
    if part.startswith("core/export/transformers_code/"):  # copied into packages, never imported here
        return
    heavy = HEAVY[1:] if part.startswith(MAY_IMPORT_TORCH) else HEAVY
    assert not [name for node in top_level for name in imported_names(node) if is_under(name, heavy)]


@pytest.mark.parametrize("module", ["core.models", "core.checks", "core.training"])
def test_the_validation_notebook_needs_only_what_colab_has(module: str) -> None:
    allowed = {"torch", "numpy", "pandas", "matplotlib", "transformer_foundry", "__future__"} | sys.stdlib_module_names
    for path in (PACKAGE / module.replace(".", "/")).rglob("*.py"):
        top_level = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {name.split(".")[0] for node in top_level for name in imported_names(node)}
        assert names <= allowed, path


def test_registering_the_pipelines_loads_no_heavy_library() -> None:
    program = (
        "import json, sys\n"
        "from transformer_foundry.pipeline_registry import register_pipelines\n"
        "import transformer_foundry.settings\n"
        "names = sorted(register_pipelines())\n"
        f"print(json.dumps([names, [name for name in {HEAVY!r} if name in sys.modules]]))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names, loaded = json.loads(answer.stdout.splitlines()[-1])
    assert names == ["__default__", "comparison", "data_engineering", "deployment", "training", "tuning", "validation"]
    assert loaded == []


def test_every_public_name_exists() -> None:
    import importlib

    for path in PACKAGE.rglob("__init__.py"):
        name = ".".join(path.relative_to(SOURCE).parent.parts)
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", []):
            assert getattr(module, public) is not None, f"{name}.{public}"


def test_hooks_can_be_registered_by_a_pluggy_that_reads_properties_too() -> None:
    # Pluggy before 1.7, which Colab has, calls getattr for every name of a plugin, before anything was run.
    from transformer_foundry.settings import HOOKS

    assert [name for hook in HOOKS for name in dir(hook) if not hasattr(hook, name)] == []
