"""What the sections of a page say of measures that are unlike those of a plain run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from icsnn_deploy.report.page.document import Pictures, Section, Text
from icsnn_deploy.report.page.measure import HeldSamples, ReportOptions, measure
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.section_costs import operations_section
from icsnn_deploy.report.page.section_parity import parity_section
from icsnn_deploy.report.page.sections import report_page
from tests.support.evaluating import build, data


@pytest.fixture
def found(tmp_path: Path) -> BundleMeasures:
    bundle = build(tmp_path / "bundle")
    x, y = data(tmp_path, 5, bundle.network())
    held = HeldSamples(samples=x, axis=0, name="x")
    return measure(bundle, held, y, ReportOptions(targets=("loihi2",)))


def texts(section: Section) -> list[str]:
    return [line for item in section.items if isinstance(item, Text) for line in item.lines]


def test_nothing_is_good_where_no_backend_ran(found: BundleMeasures) -> None:
    parity = replace(found.parity, comparisons=(), failed={"onnxruntime": "not installed"})
    section = parity_section(replace(found, parity=parity), "x-")
    assert texts(section) == ["No backend ran."]
    assert texts(parity_section(found, "x-")) == ["No backend differs in any spike."]


def test_operations_of_spikes_of_the_input_have_a_row(found: BundleMeasures) -> None:
    activity = replace(found.activity, acs=found.activity.acs + 100, macs_once=0.0)
    section = operations_section(replace(found, activity=activity), "x-")
    drawn = [item for item in section.items if isinstance(item, Pictures)]
    rows = [row for item in drawn for picture in item.pictures for row in picture.table.rows]
    name = found.evaluation.graph.input.name
    assert (name, "100", "") in [row[:3] for row in rows]


def test_a_comparison_says_what_each_bundle_was_measured_on(
    tmp_path: Path, found: BundleMeasures
) -> None:
    bundle = build(tmp_path / "one")
    same = report_page([(bundle, found), (bundle, found)])
    assert same.sections[0].lead == f"Each bundle on {found.samples_from}."
    other = replace(found, samples_from="9 samples of y")
    pair = report_page([(bundle, found), (bundle, other)])
    assert "of its own" in pair.sections[0].lead
