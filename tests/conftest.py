"""What all tests share: one thread each (two run side by side), no network, nothing kept outside the test's folder."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

from hypothesis import settings

# A shell starts its background jobs with SIGINT ignored, and then there is no KeyboardInterrupt to test.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["NPM_CONFIG_OFFLINE"] = "true"
if "FOUNDRY_CACHE" not in os.environ:
    os.environ["FOUNDRY_CACHE"] = tempfile.mkdtemp(prefix="foundry-cache-")
    atexit.register(shutil.rmtree, os.environ["FOUNDRY_CACHE"], ignore_errors=True)
for name in ("HF_TOKEN", "WANDB_API_KEY", "FOUNDRY_DEBUG"):
    os.environ.pop(name, None)

# The same examples everywhere, so that one run tells of the next; --hypothesis-profile=default tries others.
settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Let forked commands begin in the environment that all modules of tests have left."""
    from tests.integration import command_server

    command_server.remember_environment()
