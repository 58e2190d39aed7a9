"""Running the pipelines from a notebook: one call, one Kedro session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformer_foundry.core.errors import find_foundry_error

__all__ = ["find_project", "run"]


def find_project(start: Path | None = None) -> Path:
    """Return the root of the project that holds ``start``, by default the working directory.

    Raises:
        FileNotFoundError: If no folder from ``start`` upwards is a Transformer Foundry project.
    """
    origin = (start or Path.cwd()).resolve()
    for folder in (origin, *origin.parents):
        if (folder / "src" / "transformer_foundry").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError(f"{origin} is not inside a clone of Transformer Foundry: change to it with %cd FOLDER.")


def run(*pipelines: str, env: str | None = None, **sections: Any) -> None:
    """Run ``pipelines`` one after the other in a session of their own, as ``kedro run --pipelines`` does.

    Training that was interrupted goes on from its newest checkpoint.

    Args:
        *pipelines: Names, for example ``"validation", "data_engineering"``; none runs the whole road.
        env: Preset: ``"standard"`` or ``"thorough"``; the quick one by default.
        **sections: Parameters by section, for example ``model={"source": "..."}, training={"max_steps": 100}``.

    Raises:
        FoundryError: For anything that the user can mend; a notebook shows its lines and no traceback.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from transformer_foundry.termination import stop_at_termination

    project = find_project()
    bootstrap_project(project)
    try:
        session = KedroSession.create(project_path=project, env=env, runtime_params=sections)
        with session, stop_at_termination():
            session.run(pipeline_names=list(pipelines) or None)
    except Exception as error:  # The edge of the program: what is not expected goes on as it came.
        expected = find_foundry_error(error)
        if expected is None:
            raise
        raise expected from None
