"""Commands about models: ``kedro models``, the local registry, and ``kedro hub``, releases on the Hugging Face Hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from transformer_foundry.core.publishing.registry.model_version import ModelVersion
    from transformer_foundry.core.publishing.registry.registry import Registry

__all__ = ["hub", "models"]

_data_dir = click.option("--data-dir", default="data", show_default=True, help="Root of everything that is written.")
_alias = click.option("--alias", default="production", show_default=True, help="The alias.")


@click.group(short_help="List, compare, promote registered models.")
def models() -> None:
    """List, compare, promote and roll back the registered models."""


@click.group(short_help="Publish packages, list and compare releases.")
def hub() -> None:
    """Publish a package on the Hugging Face Hub; list, compare and roll back its releases."""


@models.command("list")
@_data_dir
def list_models(data_dir: str) -> None:
    """List every version of every model."""
    rows = [("model", "aliases", "test loss", "step", "run", "data", "hub", "registered")]
    for versions in _registry(data_dir).versions().values():
        rows += [
            (
                f"{item.name}:{item.version}",
                ",".join(item.aliases),
                _text(item.metrics.get("loss")),
                _text(item.lineage.get("step")),
                _text(item.lineage.get("run")),
                _text(item.data_fingerprint)[:12],
                ",".join(f"{where['repo_id']}@{where['tag']}" for where in item.publications),
                item.registered_at,
            )
            for item in versions
        ]
    if len(rows) == 1:
        click.echo(f"No model is registered in {Path(data_dir) / 'registry'} yet. 'kedro run' makes and registers one.")
        return
    _show_table(rows)


@models.command(short_help="Show what was measured, and its origin.")
@click.argument("model")
@_data_dir
def show(model: str, data_dir: str) -> None:
    """Show MODEL (NAME, NAME:VERSION or NAME@ALIAS): what was measured, and where it is from."""
    item = _registry(data_dir).find(model)
    click.echo(f"{item.name}:{item.version}  {' '.join(item.aliases)}\n{item.folder}")
    click.echo(f"package: {item.package_sha256}\nregistered: {item.registered_at}\ndata: {item.data_fingerprint}")
    for name, value in {**item.lineage, **{f"test {name}": value for name, value in item.metrics.items()}}.items():
        click.echo(f"{name}: {_text(value)}")
    for where in item.publications:
        click.echo(f"published: {where['repo_id']} {where['tag']} {where['revision']}")


@models.command("compare")
@click.argument("first")
@click.argument("second")
@_data_dir
def compare_models(first: str, second: str, data_dir: str) -> None:
    """Compare two models on the test split."""
    registry = _registry(data_dir)
    items = [registry.find(first), registry.find(second)]
    rows = [("test", *(f"{item.name}:{item.version}" for item in items))]
    names = dict.fromkeys([*items[0].metrics, *items[1].metrics])
    rows += [(name, *(_text(item.metrics.get(name)) for item in items)) for name in names]
    _show_table(rows)
    same = items[0].data_fingerprint is not None and items[0].data_fingerprint == items[1].data_fingerprint
    click.echo("The test data are the same." if same else "The test data are NOT the same: do not compare the figures.")


@models.command(short_help="Make a model the production model.")
@click.argument("model")
@_alias
@click.option("--metric", default="loss", show_default=True, help="Metric of the test split that decides.")
@click.option("--force", is_flag=True, help="Promote it even if it is not better.")
@_data_dir
def promote(model: str, alias: str, metric: str, force: bool, data_dir: str) -> None:
    """Make MODEL the production model, if it is better than the present one on the same test data."""
    registry = _registry(data_dir)
    version = registry.find(model)
    before = registry.promote(version, alias, metric=metric, force=force)
    instead = f" in place of version {before.version}" if before and before.version != version.version else ""
    click.echo(f"{version.name}:{version.version} is {alias}{instead}.")
    _mirror(version, alias)


@models.command("rollback", short_help="Give the alias back to the version before.")
@click.argument("name")
@_alias
@_data_dir
def roll_back_model(name: str, alias: str, data_dir: str) -> None:
    """Give the alias of the model NAME back to the version that had it before."""
    version = _registry(data_dir).roll_back(name, alias)
    click.echo(f"{version.name}:{version.version} is {alias} again; its package is in {version.folder}.")
    _mirror(version, alias)


@hub.command("publish")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--public", is_flag=True, help="Make the repository public if it is made now.")
@click.option("--overwrite", is_flag=True, help="Publish into a repository that holds something else.")
def publish_command(folder: Path, repo: str, public: bool, overwrite: bool) -> None:
    """Publish the package in FOLDER to REPO (USER/NAME)."""
    from transformer_foundry.core.publishing import publish

    done = publish(folder, repo, token=_token(), private=not public, overwrite=overwrite)
    click.echo(f"{done['url']} {done['tag']} ({done['revision'][:12]}); reloaded, difference {done['difference']:g}.")


@hub.command()
@click.argument("repo")
def versions(repo: str) -> None:
    """List the releases of REPO."""
    from transformer_foundry.core.publishing import list_releases

    rows = [("release", "revision", "model", "step", "loss", "")]
    for item in list_releases(repo, token=_token()):
        loss, current = _text(item["metrics"].get("loss")), "current" if item["is_current"] else ""
        rows.append((item["tag"], item["revision"][:12], _text(item["model"]), _text(item["step"]), loss, current))
    _show_table(rows)


@hub.command("compare", short_help="Show what is different between releases.")
@click.argument("repo")
@click.argument("first")
@click.argument("second")
def compare_command(repo: str, first: str, second: str) -> None:
    """Show what is different between two releases of REPO."""
    from transformer_foundry.core.publishing import compare_releases

    found = compare_releases(repo, first, second, token=_token())
    _show_table([("", first, second), *((name, _text(old), _text(new)) for name, (old, new) in found.items())])


@hub.command("rollback")
@click.argument("repo")
@click.argument("tag")
def roll_back_command(repo: str, tag: str) -> None:
    """Make REPO hold the release TAG again, in a new commit."""
    from transformer_foundry.core.publishing import roll_back

    click.echo(f"{repo} holds {tag} again: {roll_back(repo, tag, token=_token())[:12]}.")


def _mirror(version: ModelVersion, alias: str) -> None:
    """Move the tag of that name in the repositories to which the version was published, if there is a token."""
    from transformer_foundry.core.base.errors import DeploymentError
    from transformer_foundry.core.publishing import mark_release

    for where in version.publications:
        try:
            mark_release(where["repo_id"], alias, where["revision"], token=_token())
            click.echo(f"The tag {alias} of {where['repo_id']} is at {where['tag']}.")
        except DeploymentError as err:
            click.echo(f"The tag {alias} of {where['repo_id']} was not moved: {err.problem}", err=True)


def _registry(data_dir: str) -> Registry:
    from transformer_foundry.core.publishing import Registry

    return Registry(Path(data_dir) / "registry")


def _token() -> str | None:
    return os.environ.get("HF_TOKEN")


def _show_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(dict(value) if isinstance(value, Mapping) else value)
