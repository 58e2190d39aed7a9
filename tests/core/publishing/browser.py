"""A headless Chromium, driven over its debugging protocol, for the tests of the page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import http.server
import itertools
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE_S = 120


class Page:
    """One tab: runs JavaScript, takes pictures, and keeps what was requested and what went wrong."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: asyncio.Queue[str] = asyncio.Queue()
        self._listener = asyncio.create_task(self._listen())
        self.requested: list[str] = []
        self.errors: list[str] = []

    async def _listen(self) -> None:
        async for message in self._socket:
            content = json.loads(message.data)
            if "id" in content:
                self._answers.pop(content["id"]).set_result(content)
                continue
            await self._events.put(content["method"])
            if content["method"] == "Network.requestWillBeSent":
                self.requested.append(content["params"]["request"]["url"])
            if content["method"] == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(content["params"])[:500])
            if content["method"] == "Log.entryAdded" and content["params"]["entry"]["level"] == "error":
                self.errors.append(json.dumps(content["params"])[:500])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        content = await asyncio.wait_for(answer, _PATIENCE_S)
        assert "error" not in content, content
        return content["result"]

    async def open(self, url: str) -> None:
        """Open ``url`` and wait until its own promise ``ready`` is kept."""
        await self.call("Page.navigate", url=url)
        while await asyncio.wait_for(self._events.get(), _PATIENCE_S) != "Page.loadEventFired":
            pass
        await self.run("window.ready")

    async def run(self, expression: str) -> Any:
        """Return the value of ``expression``, awaited if it is a promise."""
        result = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def ask(self, text: str) -> str:
        """Type ``text``, press Run, and return all that the page then shows."""
        await self.run(f"document.getElementById('text').value = {json.dumps(text)}")
        await self.run("document.getElementById('form').requestSubmit()")
        await self.run("window.answered")
        return await self.run("document.querySelector('main').innerText")

    async def look(self, path: Path, *, width: int = 1000, height: int = 900, scheme: str = "light") -> None:
        """Take a picture at this size and colour scheme."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))


@contextlib.asynccontextmanager
async def open_browser() -> AsyncIterator[Page]:
    """Start Chromium with a profile of its own and give its only tab."""
    with tempfile.TemporaryDirectory(prefix="foundry-browser-", ignore_cleanup_errors=True) as profile:
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        offline = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        command = [CHROMIUM, *options, *offline, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        process = subprocess.Popen([*command, "about:blank"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tab = next(item for item in await answer.json() if item["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    for domain in ("Page", "Runtime", "Network"):
                        await page.call(f"{domain}.enable")
                    yield page
        finally:
            process.terminate()
            process.wait()


async def _port(file: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(_PATIENCE_S * 10):
        with contextlib.suppress(OSError, IndexError):
            return file.read_text().split()[0]
        assert process.poll() is None, "Chromium has ended"
        await asyncio.sleep(0.1)
    raise AssertionError("Chromium did not open its port")


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve ``folder`` on the loopback interface, as ``python -m http.server`` does, and give its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
