"""A process in which the real Hub client lives: it reads where the Hub is when it is imported, once for many calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.loopback.mini_hub import MiniHub

_PROGRAM = """
import importlib, json, sys
from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.publishing.hub import errors as hub_errors
hub_errors._PAUSE_S = 0.01
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    name, arguments, options = json.loads(line)
    module, function = name.split(":")
    try:
        answer = {"result": getattr(importlib.import_module(module), function)(*arguments, **options)}
    except FoundryError as err:
        answer = {"problem": err.problem, "remedy": err.remedy}
    except BaseException as err:
        answer = {"crash": repr(err)}
    print(json.dumps(answer), file=answers, flush=True)
"""


class HubClient:
    """Calls functions of this project in a process that talks to ``hub``."""

    def __init__(self, hub: MiniHub, home: Path) -> None:
        environment = os.environ | hub.env(home=home) | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
        self._process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call ``module:function``; return what it returns, or the problem and the remedy that it names."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([name, arguments, options]), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        assert "crash" not in answer, answer
        return answer.get("result", answer)

    def publish(self, folder: Path, repo_id: str, *, token: str | None = "hf_alice", **options: Any) -> Any:
        return self.call(
            "transformer_foundry.core.publishing.hub.publish:publish", str(folder), repo_id, token=token, **options
        )
