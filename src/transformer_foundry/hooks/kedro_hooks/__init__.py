"""The project's Kedro hooks: ``hooks`` turns what nodes load and save into calls of callbacks.

``run_callbacks`` holds the callbacks of one run, ``announcement`` finds the method for what was saved,
``earlier_outputs`` gives nodes what their outputs hold already, ``free_inputs`` completes the catalog of a project
without optional entries. ``viz_status`` is independent of them: the
status of the last run in kedro-viz.
"""

from transformer_foundry.hooks.kedro_hooks.hooks import KedroHooks, report_interrupted
from transformer_foundry.hooks.kedro_hooks.viz_status import VizStatusHooks

__all__ = ["KedroHooks", "VizStatusHooks", "report_interrupted"]
