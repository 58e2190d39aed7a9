"""Refuse a commit that holds a secret or a notebook with outputs: ``python .ci/commit_guard.py FILE...``."""

import json
import re
import sys
from pathlib import Path

SECRETS = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{40,}|\bAIza[\w-]{35}|\bAKIA[A-Z0-9]{16}\b|\bwandb_v1_\w{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(?:WANDB_API_KEY|wandb_api_key)\s*[=:]\s*['\"]?[0-9a-f]{40}\b"
)


def problems(path: Path) -> list[str]:
    """Return why the file must not be committed, one line each."""
    text = path.read_text(encoding="utf-8", errors="replace")
    found = [
        f"{path} line {number}: looks like a secret; take it out and renew it."
        for number, line in enumerate(text.splitlines(), 1)
        if SECRETS.search(line)
    ]
    if path.name == "credentials.yml" or path.name == ".env":
        found.append(f"{path}: credentials stay on your machine.")
    if path.suffix == ".ipynb":
        cells = json.loads(text).get("cells", [])
        if any(cell.get("outputs") or cell.get("execution_count") for cell in cells):
            found.append(f"{path}: has outputs; clear them (jupyter nbconvert --clear-output --inplace {path}).")
    return found


if __name__ == "__main__":
    told = [line for name in sys.argv[1:] if Path(name).is_file() for line in problems(Path(name))]
    print(*told, sep="\n", file=sys.stderr)
    sys.exit(int(bool(told)))
