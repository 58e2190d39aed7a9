"""Turn pip's installation report (stdin) into a list of versions with hashes: ``make lock``."""

import json
import platform
import sys


def main() -> None:
    """Print name, version and sha256 of every distribution in the report but the project itself."""
    found = {}
    for item in json.load(sys.stdin)["install"]:
        digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        name = item["metadata"]["name"].lower().replace("_", "-").replace(".", "-")
        if digest is not None:
            found[name] = f"{name}=={item['metadata']['version']} --hash=sha256:{digest}"
    print(
        f"# The tested set with hashes: Python {platform.python_version()}, {platform.system()} {platform.machine()}."
    )
    print("# Install exactly this: pip install --require-hashes --no-deps -r requirements.lock")
    print(*(found[name] for name in sorted(found)), sep="\n")


if __name__ == "__main__":
    main()
