"""Commands that the project adds to Kedro: ``kedro run`` in ``project``, one group of commands in each other module."""

from transformer_foundry.cli.project import cli, run
from transformer_foundry.cli.readable import readable_errors

__all__ = ["cli", "readable_errors", "run"]
