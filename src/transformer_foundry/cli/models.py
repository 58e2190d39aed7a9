"""Commands for the model registry: ``kedro models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from transformer_foundry.cli.hub import hub_token
from transformer_foundry.cli.runs import storage_options
from transformer_foundry.cli.tables import show_line, show_table, text_of
from transformer_foundry.console.program import with_program

if TYPE_CHECKING:
    from transformer_foundry.config.storage import Storage
    from transformer_foundry.core.publishing.registry.model_version import ModelVersion
    from transformer_foundry.core.publishing.registry.registry import Registry


__all__ = ["models"]


_alias = click.option("--alias", default="production", show_default=True, help="Name of the alias.")


@click.group(short_help="List, compare, promote registered models.")
def models() -> None:
    """List, compare, promote and roll back the registered models."""


@models.command("list", short_help="List every version of every model.")
@click.option("--verify", is_flag=True, help="Read and hash every file; without it, only sizes are compared.")
@storage_options
def list_models(storage: Storage, *, verify: bool) -> None:
    """List every version of every model; one is marked whose files are missing or damaged."""
    from transformer_foundry.core.publishing.registry.damage import find_damage, is_incomplete

    registry = _registry(storage)
    rows = [("model", "aliases", "test loss", "step", "run", "data", "hub", "registered")]
    for versions in registry.versions().values():
        rows += [
            (
                f"{item.name}:{item.version}",
                ",".join([*item.aliases, *["DAMAGED"] * (is_incomplete(item) or (verify and bool(find_damage(item))))]),
                text_of(item.metrics.get("loss")),
                text_of(item.lineage.get("step")),
                text_of(item.lineage.get("run")),
                text_of(item.data_fingerprint)[:12],
                ",".join(f"{where['repo_id']}@{where['tag']}" for where in item.publications),
                item.registered_at,
            )
            for item in versions
        ]
    if len(rows) == 1:
        show_line(with_program(f"No models in {storage.registry} yet. 'kedro run' trains and registers one."))
        return
    show_table(rows)


@models.command(short_help="Show the metrics and origin of a model.")
@click.argument("model")
@storage_options
def show(model: str, storage: Storage) -> None:
    """Show metrics, origin and publications of MODEL (NAME, NAME:VERSION or NAME@ALIAS), and whether it is damaged."""
    from transformer_foundry.core.publishing.registry.damage import remedy_of_damage

    registry = _registry(storage)
    item = registry.find(model)
    show_line(f"{item.name}:{item.version}  {' '.join(item.aliases)}")
    show_line(item.folder)
    show_line(f"package: {item.package_sha256}")
    show_line(f"registered: {item.registered_at}")
    show_line(f"data: {item.data_fingerprint}")
    for name, value in {**item.lineage, **{f"test {name}": value for name, value in item.metrics.items()}}.items():
        show_line(f"{name}: {text_of(value)}")
    for where in item.publications:
        show_line(f"published: {where['repo_id']} {where['tag']} {where['revision']}")
    damage = registry.damage_of(item)
    if damage is not None:
        show_line(f"warning: {damage} {remedy_of_damage(item)}", err=True)


@models.command("compare")
@click.argument("first")
@click.argument("second")
@storage_options
def compare_models(first: str, second: str, storage: Storage) -> None:
    """Compare two models on the test split."""
    registry = _registry(storage)
    items = [registry.find(first), registry.find(second)]
    rows = [("test", *(f"{item.name}:{item.version}" for item in items))]
    names = dict.fromkeys([*items[0].metrics, *items[1].metrics])
    rows += [(name, *(text_of(item.metrics.get(name)) for item in items)) for name in names]
    show_table(rows)
    same = items[0].data_fingerprint is not None and items[0].data_fingerprint == items[1].data_fingerprint
    show_line(
        "Both were measured on the same test data."
        if same
        else "They were measured on DIFFERENT test data: do not compare these metrics."
    )


@models.command(short_help="Make a model the production model.")
@click.argument("model")
@_alias
@click.option("--metric", default="loss", show_default=True, help="Test metric to compare.")
@click.option("--force", is_flag=True, help="Promote it even if it is not better.")
@storage_options
def promote(model: str, alias: str, metric: str, force: bool, storage: Storage) -> None:
    """Make MODEL the production model if it is better than the current one on the same test data."""
    registry = _registry(storage)
    version = registry.find(model)
    before = registry.promote(version, alias, metric=metric, force=force)
    instead = f" (before: version {before.version})" if before and before.version != version.version else ""
    show_line(f"{version.name}:{version.version} is now {alias}{instead}.")
    _mirror(version, alias)


@models.command("rollback", short_help="Return an alias to the previous version.")
@click.argument("name")
@_alias
@storage_options
def roll_back_model(name: str, alias: str, storage: Storage) -> None:
    """Return the alias of the model NAME to the version that had it before."""
    version = _registry(storage).roll_back(name, alias)
    show_line(f"{version.name}:{version.version} is {alias} again; package: {version.folder}")
    _mirror(version, alias)


def _mirror(version: ModelVersion, alias: str) -> None:
    """Move the tag ``alias`` in the repositories that the version was published to."""
    from transformer_foundry.core.base.errors import DeploymentError
    from transformer_foundry.core.publishing import mark_release

    for where in version.publications:
        try:
            mark_release(where["repo_id"], alias, where["revision"], version.package_sha256, token=hub_token())
            show_line(f"The tag {alias} of {where['repo_id']} now points to {where['tag']}.")
        except DeploymentError as err:
            show_line(f"warning: the tag {alias} of {where['repo_id']} was not moved: {err.problem}", err=True)


def _registry(storage: Storage) -> Registry:
    from transformer_foundry.core.publishing import Registry

    return Registry(storage.registry)
