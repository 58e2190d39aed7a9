"""Commands that the project adds to Kedro: ``kedro run`` in ``project``, one group of commands in each other module."""

from transformer_foundry.cli.project import cli, readable_errors, run

__all__ = ["cli", "readable_errors", "run"]
