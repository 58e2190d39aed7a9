"""Check that the keys of ``config.json`` have an effect: names that nothing reads, activations, epsilons, biases."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.structure.configuration import stated_value
from transformer_foundry.core.models.building.constructor_calls import SYNONYMS

__all__ = ["check_config_keys"]

ACTIVATION_KEYS = (
    "activation",
    "hidden_act",
    "activation_function",
    "act_fn",
    "hidden_activation",
    "act",
    "nonlinearity",
)
# Word in the name of an activation -> operations that compute it.
ACTIVATIONS = {
    "gelu": {"gelu", "tanh", "sigmoid", "erf"}, "geglu": {"gelu", "tanh", "erf"}, "silu": {"silu", "sigmoid"},
    "swish": {"silu", "sigmoid"}, "swiglu": {"silu", "sigmoid"}, "reglu": {"relu"}, "relu": {"relu"}, "mish": {"mish"},
    "tanh": {"tanh"}, "elu": {"elu"}, "leaky_relu": {"leaky_relu"},
}  # fmt: skip
KNOWN = frozenset({"gelu", "silu", "relu", "mish", "elu", "leaky_relu", "tanh", "sigmoid", "erf", "relu_"})
EPSILON_KEYS = ("layer_norm_eps", "rms_norm_eps", "norm_eps", "layer_norm_epsilon", "layernorm_eps", "norm_epsilon")
ALIKE = 0.8


def check_config_keys(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that keys are spelled as the constructor reads them, and that activation and epsilon are those stated."""
    if subject.rebuild is None or subject.graph:
        return  # Configuration classes of libraries have keys of their whole family.
    yield from _misspelled(subject)
    yield from _activation(subject)
    yield from _epsilon(subject)


def _misspelled(subject: ModelUnderTest) -> Iterator[Finding]:
    tree = subject.source.main.tree
    wanted = _names_read(tree)
    everything = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    everything |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | wanted
    for key, value in subject.config.items():
        synonyms = next((group for group in SYNONYMS if key in group), ())
        if key in everything or any(name in everything for name in synonyms) or isinstance(value, dict | list):
            continue
        missing = [name for name in wanted if name not in subject.config]
        nearest = difflib.get_close_matches(key, missing, n=1, cutoff=ALIKE)
        if nearest:
            yield finding_at(
                "configuration",
                "warning",
                f"config.json has {key}: {value!r}, which model.py never reads; it reads {nearest[0]}, which is "
                "missing there. The model is built with its default instead.",
                subject.locator.forward(),
                f"rename {key} to {nearest[0]} in config.json.",
            )


def _names_read(tree: ast.Module) -> set[str]:
    """Return the names that constructors take, fields of configuration classes, and keys that are looked up."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "build_model", "create_model", "make_model"):
            names |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            names |= {node.slice.value} if isinstance(node.slice.value, str) else set()
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("get", "pop") and node.args:
            first = node.args[0]
            names |= {first.value} if isinstance(first, ast.Constant) and isinstance(first.value, str) else set()
    return names - {"self"}


def _activation(subject: ModelUnderTest) -> Iterator[Finding]:
    key = next((key for key in ACTIVATION_KEYS if isinstance(subject.config.get(key), str)), None)
    used = {call.name.rstrip("_") for call in subject.trace.operations} & KNOWN
    if key is None or not used:
        return
    stated = subject.config[key].lower()
    operations = ACTIVATIONS.get(stated) or next((ACTIVATIONS[word] for word in ACTIVATIONS if word in stated), None)
    if operations is None or operations & used:
        return
    call = next(call for call in subject.trace.operations if call.name.rstrip("_") in used)
    yield finding_at(
        "configuration",
        "warning",
        f"config.json says {key}: {subject.config[key]}, but the model computes {', '.join(sorted(used))}. The setting "
        "has no effect.",
        subject.locator.at(call.line, call.module),
        f"choose the activation by config['{key}'], or correct the setting.",
    )


def _epsilon(subject: ModelUnderTest) -> Iterator[Finding]:
    key, stated = stated_value(subject.config, EPSILON_KEYS, float)
    found = {
        path: float(value)
        for path, module in subject.model.named_modules()
        for value in (getattr(module, "eps", None), getattr(module, "variance_epsilon", None))
        if isinstance(value, float)
    }
    if not key or not found or any(abs(value - stated) <= 0.01 * stated for value in found.values()):
        return
    path, value = next(iter(found.items()))
    yield finding_at(
        "configuration",
        "warning",
        f"config.json says {key}: {stated:g}, but the norms of the model have {value:g}. The setting has no effect.",
        subject.locator.module(path),
        f"pass config['{key}'] to every norm, or correct the setting.",
    )
