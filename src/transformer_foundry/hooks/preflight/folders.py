"""Whether links of the run's folders lead out of them: the data folder may come from someone else."""

from __future__ import annotations

from pathlib import Path

from transformer_foundry.core.files.plain_files import require_contained
from transformer_foundry.core.files.run_paths import downloads_folder
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["require_own_files"]


def require_own_files(context: RunContext) -> None:
    """Refuse a run if a link leads out of one of its folders, or out of data_dir on the way there.

    Inputs that a parameter names (``model.source``, ``data.source``) may be links: they are only read.

    Raises:
        DataError: Naming the link and its target.
    """
    if not context.is_main_process:
        return
    for folder in _folders(context):
        require_contained(folder, context.data_dir)


def _folders(context: RunContext) -> list[Path]:
    """Return the folders and files that the command may read or write, none of them in another one."""
    paths = context.configured_paths
    folders = [paths.run, paths.package, paths.registry, paths.reports, paths.model_input, paths.tuning]
    folders += [paths.shared_reports, downloads_folder(context.data_dir), *context.files.values()]
    if context.run is not None:
        folders.append(context.run.folder)
        if context.run.fork_from is not None:
            folders.append(context.run.folder.parent / context.run.fork_from)
    found = dict.fromkeys(folders)
    return [folder for folder in found if found.keys().isdisjoint(folder.parents)]
