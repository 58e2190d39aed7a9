"""Running the pipelines from a notebook: one call, one Kedro session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformer_foundry.console.command_line import run_command
from transformer_foundry.console.expected_errors import expected_error

__all__ = ["find_project", "run", "show_model"]


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


def show_model(source: str, revision: str | None = None) -> dict[str, str]:
    """Print what the model at ``source`` is made of and return the section ``model`` that allows exactly this to run.

    Nothing of it is run. Code from a gist or a zip file is pinned by its digest: if it changes, it is shown again.

    Args:
        source: Folder, zip file, gist id or gist URL; a folder or file also as a path from the project's root.
        revision: Revision of a gist; the newest when None.

    Raises:
        FoundryError: If it cannot be read.
    """
    from transformer_foundry.core.models import describe_export, read_export

    local = find_project() / source
    export = read_export(
        local if source and local.exists() else source, revision=revision, token=os.environ.get("GITHUB_TOKEN")
    )
    print(describe_export(export))
    if export.is_local:
        return {"source": source}
    pinned = {} if export.revision is None else {"revision": export.revision}
    return {"source": source, "sha256": export.identity} | pinned


def run(*pipelines: str, env: str | None = None, **sections: Any) -> None:
    """Run ``pipelines`` one after the other in a session of their own, as ``kedro run --pipelines`` does.

    The command that does the same is printed. Training that was interrupted goes on from its newest checkpoint.

    Args:
        *pipelines: Names, for example ``"validation", "data_engineering"``; none runs the whole road.
        env: Preset: ``"standard"`` or ``"thorough"``; the quick one by default.
        **sections: Parameters by section, for example ``model={"source": "..."}, training={"max_steps": 100}``.

    Raises:
        FoundryError: For anything that the user can mend; a notebook shows its lines and no traceback.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from transformer_foundry.config.comparison_mode import compared_models, compared_pipelines
    from transformer_foundry.console.sigterm import stop_at_termination
    from transformer_foundry.hooks.report import report_interrupted

    project = find_project()
    bootstrap_project(project)
    print(f"The same on the command line: {run_command(pipelines, env, sections)}")
    try:
        session = KedroSession.create(project_path=project, env=env, runtime_params=sections)
        chosen = compared_pipelines(pipelines) if compared_models(project / "conf", env, sections) else list(pipelines)
        with session, stop_at_termination():
            session.run(pipeline_names=chosen or None)
    except KeyboardInterrupt:
        report_interrupted()
        print("Stopped. Run this cell again to go on from the last checkpoint.")
        raise
    except Exception as error:  # The edge of the program: what is not expected goes on as it came.
        expected = expected_error(error)
        if expected is None:
            raise
        raise expected from None
