"""What a callback knows about the run that it follows; begin with ``context``.

``flow`` finds the nodes of each training run, ``entries`` what the catalog knows of an entry.
"""

from transformer_foundry.config.own_nodes import entry_of
from transformer_foundry.hooks.run_context.context import RunContext, make_run_contexts
from transformer_foundry.hooks.run_context.flow import EARLIER_RESULTS, earlier_entries, function_of

__all__ = ["EARLIER_RESULTS", "RunContext", "earlier_entries", "entry_of", "function_of", "make_run_contexts"]
