"""A headless Chromium for tests of pages, through the protocol of its driver (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str | None:
    """What is not installed that a test in a browser needs; None if all is there."""
    if not any(map(shutil.which, NAMES)):
        return "no Chromium (Debian: apt-get install chromium chromium-driver)"
    if shutil.which("chromedriver") is None:
        return "no chromedriver (Debian: apt-get install chromium-driver)"
    return None


class Browser:
    """One session."""

    def __init__(self, root: str) -> None:
        self._root = root
        program = next(found for name in NAMES if (found := shutil.which(name)))
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options = {
            "goog:chromeOptions": {"binary": program, "args": words},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        found = self._call("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self._session = f"/session/{found['sessionId']}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file and wait until it is loaded."""
        self.visit(path.as_uri() + fragment)

    def visit(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def wait(self, script: str, seconds: float = 60.0) -> Any:
        """What a script returns as soon as that is true.

        Raises:
            AssertionError: it is not in so many seconds.
        """
        until = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < until, f"not in {seconds:g} s: {script}"
            time.sleep(0.05)
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def resize(self, width: int, height: int) -> None:
        """The window's size."""
        self._call("POST", f"{self._session}/window/rect", {"width": width, "height": height})

    def errors(self) -> list[str]:
        """What the page has complained of so far."""
        found = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in found if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        """A picture of the window."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        """End the session."""
        self._call("DELETE", self._session)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, ended with the block."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout is not None
        port = None
        for line in driver.stdout:
            if "started successfully on port" in line:
                port = int(line.rstrip(".\n ").rpartition(" ")[2])
                break
        assert port is not None, "chromedriver did not start"
        found = Browser(f"http://127.0.0.1:{port}")
        try:
            yield found
        finally:
            found.close()
    finally:
        driver.terminate()
        driver.wait(10)
        if driver.stdout is not None:
            driver.stdout.close()
