"""From an exported model to a package, a Hub repository and a registry entry.

``build_package`` makes the folder that is published; ``publish`` uploads it in one commit;
``Registry`` keeps versions.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "DeploymentOptions": "options",
        "ModelVersion": "registry.model_version",
        "Package": "package.package",
        "Registration": "registry.registry",
        "Registry": "registry.registry",
        "build_package": "package.build",
        "compare_releases": "hub.releases",
        "fetch_package": "hub.releases",
        "list_releases": "hub.releases",
        "mark_release": "hub.releases",
        "publish": "hub.publish",
        "read_package": "package.package",
        "require_whole": "package.package",
        "roll_back": "hub.releases",
    },
)
