"""Entry point of ``python -m transformer_foundry``: runs the pipelines of the project in the working directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project

from transformer_foundry.cli import readable_errors

__all__ = ["main"]


@readable_errors
def main(*args: Any, **kwargs: Any) -> Any:
    """Run the command ``run`` of this project; an installed package reads ``conf/`` from the working directory."""
    package_name = Path(__file__).parent.name
    configure_project(package_name)
    run = find_run_command(package_name)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
