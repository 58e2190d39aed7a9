"""From a trained model to files that others can use: formats, parity, package, card and Hub.

``export_model`` writes any module in several formats and ships only those that a fresh process finds equal to it;
``build_package`` makes the folder that is published; ``publish`` uploads it in one commit.
"""

from transformer_foundry.core.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "FORMAT_FILES": "options",
        "DeploymentOptions": "options",
        "Package": "package",
        "build_package": "building",
        "export_model": "exporting",
        "parity_figure": "parity_report",
        "parity_table": "parity_report",
        "ModelVersion": "registry",
        "Registration": "registry",
        "Registry": "registry",
        "compare_releases": "hub_versions",
        "fetch_package": "hub_versions",
        "list_releases": "hub_versions",
        "mark_release": "hub_versions",
        "publish": "hub",
        "roll_back": "hub_versions",
        "read_package": "package",
        "require_whole": "package",
    },
)
