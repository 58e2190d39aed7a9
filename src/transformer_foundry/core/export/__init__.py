"""From a trained model to files that others can use: formats, parity, package, card and Hub.

``export_model`` writes any module in several formats and ships only those that a fresh process finds equal to it;
``build_package`` makes the folder that is published; ``publish`` uploads it in one commit.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "DeploymentOptions": "options",
        "FORMAT_FILES": "options",
        "ModelVersion": "registry",
        "Package": "package",
        "Registration": "registry",
        "Registry": "registry",
        "build_package": "building",
        "compare_releases": "hub_versions",
        "export_model": "exporting",
        "fetch_package": "hub_versions",
        "list_releases": "hub_versions",
        "mark_release": "hub_versions",
        "parity_figure": "parity_report",
        "parity_table": "parity_report",
        "publish": "hub",
        "read_package": "package",
        "require_whole": "package",
        "roll_back": "hub_versions",
    },
)
