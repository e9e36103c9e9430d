"""A page in headless Chromium, and what can be wrong with it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""The programs, and the Debian package of each."""

AUDIT = (Path(__file__).parent / "audit.js").read_text()


def require_browser() -> None:
    """Fail with the command that installs what is missing."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise RuntimeError(
            f"{' and '.join(missing)} missing; on Debian: apt-get install {' '.join(missing)}"
        )


class Browser:
    """One headless Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, page: Path, *, width: int, scheme: str) -> None:
        """Open a page at a width in pixels, with the color scheme "light" or "dark"."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._send("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._send("Emulation.setEmulatedMedia", {"features": [feature]})
        self.driver.get(page.as_uri())

    def console(self) -> list[str]:
        """Messages of the console since the last call: warnings and errors."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were requested since the last call, without data within the page."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return [url for url in found if not url.startswith("data:")]

    def audit(self) -> dict[str, list[str]]:
        """What can't be read or is not described, by kind; see audit.js."""
        found: dict[str, list[str]] = self.driver.execute_script(AUDIT)
        return found

    def run(self, script: str) -> Any:
        """The value of a script."""
        return self.driver.execute_script(script)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self._send(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"}
        )
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self._send("Page.printToPDF", {"printBackground": False})["data"])

    def _send(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.driver.execute_cdp_cmd(command, arguments)
        return found


@contextmanager
def headless() -> Iterator[Browser]:
    """Start Chromium, and end it."""
    require_browser()
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
