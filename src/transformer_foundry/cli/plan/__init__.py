"""``kedro plan``: what ``kedro run`` would do. ``command`` chooses the nodes, ``stages`` compares what they make."""

from transformer_foundry.cli.plan.command import make_plan_command

__all__ = ["make_plan_command"]
