"""Messages and requests of other libraries, seen from a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
asked = []
sys.addaudithook(lambda event, values: asked.append(values[0]) if event == "socket.getaddrinfo" else None)
from transformer_foundry.console.third_party import silence_third_parties
silence_third_parties()
from transformer_foundry.core.data import read_corpus
from transformer_foundry.core.data.options import DataOptions
read_corpus(DataOptions(source=sys.argv[1]), "causal_lm", None)
print(asked)
"""


def test_reading_a_local_file_sends_no_request(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "some words here"}\n' * 20)
    online = {name: value for name, value in os.environ.items() if "OFFLINE" not in name and "TELEMETRY" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, file], env=online, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"
