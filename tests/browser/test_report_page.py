"""Reports in headless Chromium, at two widths, light and dark; run by make test-browser.

The whole pages are written to build/screenshots. ICSNN_PAGES=FILE.html:FILE.html checks others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.demo.digits import load_digits, train
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.progress import silent
from icsnn_deploy.report.page.measure import HeldSamples, ReportOptions, measure
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.write import write_report
from tests.browser.browser import Browser, headless

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
WIDTHS = (360, 1600)
SCHEMES = ("light", "dark")
SECTIONS = (
    "summary",
    "accuracy",
    "confusion",
    "populations",
    "errors",
    "spikes",
    "examples",
    "conversion",
    "parity",
    "targets",
    "operations",
    "memory",
    "provenance",
)
MOST_BYTES = 5_000_000
MOST_SECONDS = 60.0  # of processor time
RESNET20 = f"{ROOT / 'examples' / 'cifar_models.py'}:resnet20"
GIVEN = [Path(name) for name in os.environ.get("ICSNN_PAGES", "").split(":") if name]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with headless() as found:
        yield found


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the demo's two networks."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    model = train(data, silent)
    calibration = data.train_images[:512]
    conversion = convert(model, calibration, Recipe(name="default", time_steps=8))
    bundle = export_into(conversion.save(folder / "digits", calibration[:8]), "nir", "onnx")
    integer = quantize(bundle, calibration).save(folder / "digits-int8", calibration[:8])
    found = [_measured(each, data.test_images, data.test_labels) for each in (bundle, integer)]
    return write_report(found, folder / "report.html")[0]


@pytest.fixture(scope="module")
def resnet20(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a ResNet20 with random weights on 200 images, within size and time."""
    folder = tmp_path_factory.mktemp("resnet20")
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((200, 3, 32, 32), np.float32)
    recipe = Recipe(name="ic-snn", time_steps=8)
    conversion = convert(load_model(RESNET20), images[:64], recipe)
    bundle = conversion.save(folder / "resnet20", images[:8])
    labels = np.arange(200) % 10
    started = time.process_time()
    path = write_report([_measured(bundle, images, labels)], folder / "report.html")[0]
    assert time.process_time() - started < MOST_SECONDS
    assert path.stat().st_size < MOST_BYTES
    return path


def _measured(bundle: Bundle, images: Array, labels: Array) -> tuple[Bundle, BundleMeasures]:
    samples = HeldSamples(samples=images, axis=0, name="images")
    return bundle, measure(bundle, samples, labels, ReportOptions(parity_samples=4))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["digits", "resnet20", *map(str, GIVEN)])
def test_a_report_is_whole_and_readable(
    request: pytest.FixtureRequest, browser: Browser, name: str, scheme: str, width: int
) -> None:
    page = Path(name) if name.endswith(".html") else request.getfixturevalue(name)
    browser.console(), browser.requests()
    browser.show(page, width=width, scheme=scheme)
    browser.screenshot(SCREENSHOTS / f"{Path(name).stem}-{width}-{scheme}.png")
    assert browser.console() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.audit() == {}
    ids = browser.run("return [...document.querySelectorAll('section')].map((e) => e.id)")
    several = [each for each in ids if each == "b1"]
    assert set(SECTIONS) <= {each.removeprefix("b1-") for each in ids} if several else set(ids)
    dark = (
        browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    )
    assert dark == (scheme == "dark")


def test_a_report_is_printed_with_all_its_pages(browser: Browser, digits: Path) -> None:
    browser.show(digits, width=1600, scheme="dark")
    assert browser.pdf().startswith(b"%PDF")


def test_the_audit_finds_what_can_not_be_read(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<body style='margin:0'><p style='width:5000px'>wide</p><p style='font-size:5px'>small</p>"
        "<p style='color:#ddd'>faint</p><img src='missing.png'><a href='#nowhere'>link</a>"
        "<svg width='50' height='20' viewBox='0 0 50 20'><text x='40' y='12'>cut off</text>"
        "<text x='40' y='12'>twice</text></svg>"
    )
    browser.console(), browser.requests()
    browser.show(page, width=360, scheme="light")
    assert set(browser.audit()) == {
        "overflow",
        "small",
        "faint",
        "cut",
        "overlapping",
        "unnamed",
        "anchors",
    }
    assert browser.console() != []
    assert len(browser.requests()) == 2
