"""Checks of a model, and a report that says what is wrong, where it is and how to fix it. To add a check, see below.

``run_checks`` checks an export, ``check_model`` a module that is already built; ``python -m
transformer_foundry.core.checks EXPORT`` does the same from the command line.

Inside:

- ``runner``: the list of all checks, ``CHECKS``, and the loop that runs them. Begin here.
- ``build``: builds the model and infers its contract; without them no check runs.
- ``structure``: of which layers a model is made, with which settings, mostly without a call: registered and initial
  weights, ``config.json`` and the drawn blocks, shared layers, state dict, cost.
- ``inputs``: what the model does with its inputs: shapes, token ids, padding, batch, labels.
- ``positions``: which position sees which, and how positions are encoded.
- ``attention``: softmax, scaling, heads, entropy.
- ``learning``: gradients, experts, residual stream, unused parameters, overfitting one batch.
- ``numerics``: finite logits, determinism, devices, mixed precision.
- ``probing``: what a check gets, ``ModelUnderTest``, and tools to trace a call and to locate a cause.
- ``report``: findings, the rules that keep root causes, the text, the figure, and the gate before training.

A check tests a property that every model of its kind has, not one way to implement it: it changes tokens, samples,
masks or weights and observes the output, so that no correct design is refused.

To add a check:

1. Look on the reference page of the checks (``make docs``) whether one finds the fault already.
2. Write a module in the folder of its subject (at most 12 modules each), or in a new folder, with one function
   ``check_NAME(subject: ModelUnderTest) -> Iterator[Finding]``. The first line of its docstring states the property;
   the reference page of the checks shows it. Yield ``finding_at(name, severity, message, location, fix)`` for each
   violation. The names of modules are unique within ``core.checks``.
3. Import the module in ``runner`` and add ``Check(name, tier, module.check_NAME)`` (``Check`` says which tier) to
   ``CHECKS``, behind the checks
   whose violations could cause this one; ``calls_model=False`` if it calls nothing.
4. If other findings follow from the new one, or it follows from others, add the name of the finding to
   ``CONSEQUENCES`` in ``report.root_causes``; to ``_ALL_MEASURED`` above it if the finding means nothing for a model
   that does not run, is not finite or not deterministic: most checks that call the model.
5. A test that breaks a sound model in one line belongs in ``tests/core/checks/test_faults.py``, a correct design that
   the check must accept in ``test_sound_models.py``. Add the property to the table "What is checked" of
   ``docs/validation.md``.
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
