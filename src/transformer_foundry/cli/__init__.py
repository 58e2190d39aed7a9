"""Commands that the project adds to Kedro: ``project`` holds ``kedro run``, the other modules one group each."""

from transformer_foundry.cli.project import cli, readable_errors, run

__all__ = ["cli", "readable_errors", "run"]
