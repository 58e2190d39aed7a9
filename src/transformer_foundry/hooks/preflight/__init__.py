"""The check before a run: whatever can be known in two seconds is accepted or refused before anything is written.

Begin with ``callback.PreflightCallback``, which lists the checks; each is a module. Which of them apply is asked from
the pipeline: the parameters and datasets that its nodes read and write.
"""

from transformer_foundry.hooks.preflight.callback import PreflightCallback

__all__ = ["PreflightCallback"]
