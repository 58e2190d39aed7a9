"""Publish a trained model: its package, its Hub repository, its entry in the model registry.

``build_package`` makes the folder that is published (``package``), ``publish`` uploads it in one commit (``hub``), and
``Registry`` keeps versions of it (``registry``). Begin with ``package/build.py``.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.publishing.hub.publish import publish as publish
    from transformer_foundry.core.publishing.hub.releases import compare_releases as compare_releases
    from transformer_foundry.core.publishing.hub.releases import fetch_package as fetch_package
    from transformer_foundry.core.publishing.hub.releases import is_published as is_published
    from transformer_foundry.core.publishing.hub.releases import list_releases as list_releases
    from transformer_foundry.core.publishing.hub.releases import mark_release as mark_release
    from transformer_foundry.core.publishing.hub.releases import roll_back as roll_back
    from transformer_foundry.core.publishing.options import DeploymentOptions as DeploymentOptions
    from transformer_foundry.core.publishing.package.build import build_package as build_package
    from transformer_foundry.core.publishing.package.package import Package as Package
    from transformer_foundry.core.publishing.package.package import read_package as read_package
    from transformer_foundry.core.publishing.package.package import require_whole as require_whole
    from transformer_foundry.core.publishing.registry.model_version import ModelVersion as ModelVersion
    from transformer_foundry.core.publishing.registry.registry import Registration as Registration
    from transformer_foundry.core.publishing.registry.registry import Registry as Registry
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
