"""Run the pipelines from a notebook: each call is one Kedro session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformer_foundry.console.command_line import run_command
from transformer_foundry.console.expected_errors import expected_error

__all__ = ["find_project", "run", "show_model"]


def find_project(start: Path | None = None) -> Path:
    """Return the root of the project that contains ``start``, by default the working directory.

    Raises:
        FileNotFoundError: If neither ``start`` nor one of its parents is a clone of the project.
    """
    origin = (start or Path.cwd()).resolve()
    for folder in (origin, *origin.parents):
        if (folder / "src" / "transformer_foundry").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError(f"{origin} is not inside a clone of Transformer Foundry: change to it with %cd FOLDER.")


def show_model(source: str, revision: str | None = None) -> dict[str, str]:
    """Print the files of the model at ``source`` and return the section ``model`` that approves exactly this code.

    No code of the model runs. Code from a gist or a zip file is pinned by its digest: changed code needs new approval.

    Args:
        source: Folder, zip file, gist id or gist URL. A path can be relative to the project's root.
        revision: Revision of a gist; the newest when None.

    Raises:
        FoundryError: If the model cannot be read.
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
    """Run ``pipelines`` in one Kedro session, as ``kedro run --pipelines`` does.

    Prints the equivalent command. Interrupted training resumes from its newest checkpoint.

    Args:
        *pipelines: Names, for example ``"validation", "data_engineering"``; none runs all except tuning.
        env: Environment of the configuration, a folder of ``conf/``; ``"local"`` by default.
        **sections: Parameters by section, for example ``model={"source": "..."}, training={"max_steps": 100}``, and
            ``preset="standard"``.

    Raises:
        FoundryError: For anything that the user can fix; a notebook prints its lines without a traceback.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from transformer_foundry.console.sigterm import stop_at_termination
    from transformer_foundry.hooks.kedro_hooks import report_interrupted

    project = find_project()
    bootstrap_project(project)
    print(f"Equivalent command: {run_command(pipelines, env, sections)}")
    try:
        session = KedroSession.create(project_path=project, env=env, runtime_params=sections)
        with session, stop_at_termination():
            session.run(pipeline_names=list(pipelines) or None)
    except KeyboardInterrupt:
        report_interrupted()
        print("Stopped. Run this cell again to resume from the last checkpoint.")
        raise
    except Exception as error:  # An unexpected error keeps its traceback.
        expected = expected_error(error)
        if expected is None:
            raise
        raise expected from None
