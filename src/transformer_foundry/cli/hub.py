"""Commands for the Hugging Face Hub: ``kedro hub``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from transformer_foundry.cli.tables import show_line, show_table, text_of

__all__ = ["hub", "hub_token"]


@click.group(short_help="Publish packages, list and compare releases.")
def hub() -> None:
    """Publish a package on the Hugging Face Hub; list, compare and roll back its releases."""


@hub.command("publish", short_help="Publish a package and record it.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--public", is_flag=True, help="Create the repository as public; an existing one stays as it is.")
@click.option("--overwrite", is_flag=True, help="Publish to a repository that has other contents.")
@click.option("--data-dir", help="Root folder of the registry; by default the one that FOLDER is in, else data.")
def publish_command(folder: Path, repo: str, public: bool, overwrite: bool, data_dir: str | None) -> None:
    """Publish the package in FOLDER to REPO (USER/NAME), and record it in the registry."""
    from transformer_foundry.core.files.run_paths import data_dir_of_package, registry_folder
    from transformer_foundry.core.publishing import Registration, Registry, publish, read_package

    done = publish(folder, repo, token=hub_token(), private=not public, overwrite=overwrite)
    root = data_dir or data_dir_of_package(folder) or "data"
    Registration(read_package(folder), publication=done).enter(Registry(registry_folder(root)))
    show_line(
        f"Published {done['tag']} to {done['url']} (revision {done['revision'][:12]}); "
        f"verified after download, largest difference {done['difference']:g}."
    )


@hub.command()
@click.argument("repo")
def versions(repo: str) -> None:
    """List the releases of REPO."""
    from transformer_foundry.core.publishing import list_releases

    rows = [("release", "revision", "model", "step", "loss", "")]
    for item in list_releases(repo, token=hub_token()):
        loss, current = text_of(item["metrics"].get("loss")), "current" if item["is_current"] else ""
        rows.append((item["tag"], item["revision"][:12], text_of(item["model"]), text_of(item["step"]), loss, current))
    show_table(rows)


@hub.command("compare", short_help="Show the differences between two releases.")
@click.argument("repo")
@click.argument("first")
@click.argument("second")
def compare_command(repo: str, first: str, second: str) -> None:
    """Show the differences between two releases of REPO."""
    from transformer_foundry.core.publishing import compare_releases

    found = compare_releases(repo, first, second, token=hub_token())
    show_table([("", first, second), *((name, text_of(old), text_of(new)) for name, (old, new) in found.items())])


@hub.command("rollback")
@click.argument("repo")
@click.argument("tag")
def roll_back_command(repo: str, tag: str) -> None:
    """Restore the release TAG of REPO in a new commit."""
    from transformer_foundry.core.publishing import roll_back

    show_line(f"Restored {tag} in {repo} (revision {roll_back(repo, tag, token=hub_token())[:12]}).")


def hub_token() -> str | None:
    """Return the token in the environment variable ``HF_TOKEN``."""
    return os.environ.get("HF_TOKEN")
