"""Checks of a model, and a report that says what is wrong, where it is and how to fix it. To add a check, see below.

``run_checks`` checks an export, ``check_model`` a module that is already built; ``python -m
transformer_foundry.core.checks EXPORT`` does the same from the command line.

Inside:

- ``runner``: the list of all checks, ``CHECKS``, and the loop that runs them. Begin here.
- ``build``: builds the model and infers its contract; without them no check runs.
- ``structure``: weights and settings, mostly without a call: registration, configuration, state dict, cost.
- ``inputs``: what the model does with its inputs: shapes, token ids, padding, batch, labels.
- ``positions``: which position sees which, and how positions are encoded.
- ``attention``: softmax, scaling, heads, entropy.
- ``learning``: gradients, initialization, residual stream, unused parameters, overfitting one batch.
- ``numerics``: finite logits, determinism, devices, mixed precision.
- ``probing``: what a check gets, ``ModelUnderTest``, and tools to trace a call and to locate a cause.
- ``report``: findings, the rules that keep root causes, the text, the figure, and the gate before training.

To add a check:

1. Write a module in the folder of its subject with one function ``check_NAME(subject: ModelUnderTest) ->
   Iterator[Finding]``. The first line of its docstring states the property; the reference page of the checks shows it.
   Yield ``finding_at(name, severity, message, location, fix)`` for each violation.
   The names of modules are unique within ``core.checks``.
2. Import the module in ``runner`` and add ``Check(name, tier, module.check_NAME)`` to ``CHECKS``, behind the checks
   whose violations could cause this one; ``calls_model=False`` if it calls nothing.

If other findings follow from the new one, or it follows from others, add the name of the finding to ``CONSEQUENCES`` in
``report.root_causes``. A test that breaks a sound model in one line belongs in ``tests/core/checks/test_faults.py``.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.checks.options import ValidationOptions as ValidationOptions
    from transformer_foundry.core.checks.probing.finding import Finding as Finding
    from transformer_foundry.core.checks.probing.measurements import Measurements as Measurements
    from transformer_foundry.core.checks.report.figure import draw_report as draw_report
    from transformer_foundry.core.checks.report.graph_figure import draw_graph as draw_graph
    from transformer_foundry.core.checks.report.report import Report as Report
    from transformer_foundry.core.checks.runner import check_model as check_model
    from transformer_foundry.core.checks.runner import run_checks as run_checks
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
