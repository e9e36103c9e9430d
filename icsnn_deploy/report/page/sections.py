"""Measures of one or several bundles -> a page."""

from __future__ import annotations

from collections.abc import Sequence

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.progress import inner_tracked
from icsnn_deploy.report.figures import figure_text
from icsnn_deploy.report.page.document import Page, Section, Table, Tile, Tiles, Tone
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.section_accuracy import accuracy_section, confusion_section
from icsnn_deploy.report.page.section_chip_cost import chip_cost_tiles
from icsnn_deploy.report.page.section_conversion import conversion_section
from icsnn_deploy.report.page.section_costs import (
    memory_section,
    operations_section,
    resources,
)
from icsnn_deploy.report.page.section_layers import errors_section, layers_section
from icsnn_deploy.report.page.section_parity import parity_section
from icsnn_deploy.report.page.section_provenance import provenance_section
from icsnn_deploy.report.page.section_samples import examples_section, spikes_section
from icsnn_deploy.report.page.section_targets import targets_section
from icsnn_deploy.report.page.wording import energy, large, percent, size, wilson
from icsnn_deploy.version import __version__

_TITLE = "Report of a spiking network"


def report_page(found: Sequence[tuple[Bundle, BundleMeasures]]) -> Page:
    """The page of one bundle; of several, with a comparison before them."""
    foot = f"icsnn-deploy {__version__}"
    if len(found) == 1:
        bundle, m = found[0]
        return Page(
            title=f"{_TITLE}: {m.name}",
            lead=_lead(m),
            sections=bundle_sections(bundle, m, ""),
            foot=foot,
        )
    parts = [
        Section(
            anchor=f"b{n}",
            title=m.name,
            lead=_lead(m),
            sections=bundle_sections(bundle, m, f"b{n}-"),
            listed=True,
        )
        for n, (bundle, m) in enumerate(found, start=1)
    ]
    comparison = Section(
        anchor="comparison",
        title="Comparison",
        lead=_compared_on([m for _, m in found]),
        items=(_comparison([m for _, m in found]),),
    )
    return Page(
        title=f"Report of {len(found)} spiking networks",
        lead=", ".join(m.name for _, m in found),
        sections=(comparison, *parts),
        foot=foot,
    )


def bundle_sections(bundle: Bundle, m: BundleMeasures, prefix: str) -> tuple[Section, ...]:
    """Every section of one bundle; `prefix` keeps the anchors of several bundles apart."""
    measured = (
        accuracy_section,
        confusion_section,
        layers_section,
        errors_section,
        spikes_section,
        examples_section,
        conversion_section,
        parity_section,
        targets_section,
        operations_section,
        memory_section,
    )
    return (
        Section(anchor=f"{prefix}summary", title="Summary", items=(_summary(m),)),
        *(section(m, prefix) for section in inner_tracked(measured, f"sections of {m.name}")),
        provenance_section(m, bundle, prefix),
    )


def _lead(m: BundleMeasures) -> str:
    graph = m.evaluation.graph
    shape = " x ".join(map(str, graph.input.shape))
    return (
        f"{'Integer' if graph.is_integer else 'Float'} network of {len(m.layers)} populations, "
        f"T = {graph.steps}, input {shape} {graph.input.dtype}, {graph.input.encoding} encoding; "
        f"measured on {m.samples_from}."
    )


def _summary(m: BundleMeasures) -> Tiles:
    a, r = m.activity, resources(m)
    tiles = [*_accuracy_tiles(m), _certificate_tile(m), _parity_tile(m), _targets_tile(m)]
    tiles += [
        Tile(
            label="Size",
            value=f"{r.neurons:,} neurons",
            note=f"{large(r.weights)} weights, {large(r.synapses)} synapses",
        ),
        Tile(label="Weights", value=_bits(m), note=f"{size(r.memory_bits / 8)} of parameters"),
        Tile(
            label="Spikes per sample",
            value=f"{a.spikes:,.0f}",
            note=f"{percent(a.firing_rate)} of neurons and steps",
        ),
        Tile(
            label="Energy per sample, estimated",
            value=_energy(m),
            note=f"{large(a.acs)} ACs, {large(a.macs_once)} MACs",
        ),
        *chip_cost_tiles(m),
    ]
    return Tiles(tiles=tuple(tiles))


def _accuracy_tiles(m: BundleMeasures) -> list[Tile]:
    """Of each output its first figure; of a classifier with its interval and the ANN's."""
    tiles = []
    alone = len(m.evaluation.outputs) == 1
    for name, figures in m.evaluation.outputs.items():
        counts = m.evaluation.counts.outputs[name]
        suffix = "" if alone else f", {name}"
        if counts.snn.top1 is not None and counts.labelled and figures.get("top1") is not None:
            low, high = wilson(counts.snn.top1, counts.labelled)
            tiles.append(
                Tile(
                    label=f"Accuracy{suffix}",
                    value=percent(figures["top1"]),
                    note=f"95 %: {percent(low)} to {percent(high)}",
                )
            )
        if figures.get("ann_top1") is not None:
            loss = 100 * (figures["ann_top1"] - figures["top1"])
            change = f"loses {loss:.1f}" if loss >= 0 else f"gains {-loss:.1f}"
            tiles.append(
                Tile(
                    label=f"Accuracy of the ANN{suffix}",
                    value=percent(figures["ann_top1"]),
                    note=f"the network {change} points",
                )
            )
        for key, label in (
            ("pixel_accuracy", "Pixel accuracy"),
            ("miou", "mIoU"),
            ("r2", "R^2"),
            ("ann_agreement", "As the ANN"),
            ("ann_deviation", "From the ANN / spread"),
        ):
            if figures.get(key) is not None:
                value = figure_text(key, figures[key])
                tiles.append(Tile(label=f"{label}{suffix}", value=value))
    return tiles


def _certificate_tile(m: BundleMeasures) -> Tile:
    if m.certificate is None:
        return Tile(
            label="Certificate",
            value="none",
            note="a float network; icsnn quantize makes one with a certificate",
            tone="open",
        )
    tightest = m.certificate.tightest
    return Tile(
        label="Certificate",
        value="exact" if m.certificate.float32 else "not exact",
        note=f"{tightest.headroom_bits:.1f} bits of headroom, least at {tightest.layer}",
        tone="good" if m.certificate.float32 else "bad",
    )


def _parity_tile(m: BundleMeasures) -> Tile:
    tones: dict[str, Tone] = {"pass": "good", "fail": "bad"}
    passed = sum(c.verdict == "pass" for c in m.parity.comparisons)
    note = f"{passed} of {len(m.parity.comparisons)} backends on {m.parity.samples:,} samples"
    if m.parity.failed:
        note += f"; {len(m.parity.failed)} not run"
    verdict = m.parity.verdict
    return Tile(label="Parity", value=verdict, note=note, tone=tones.get(verdict, "open"))


def _targets_tile(m: BundleMeasures) -> Tile:
    fitting = [each.profile.name for each in m.targets if each.ok]
    return Tile(
        label="Hardware targets",
        value=f"{len(fitting)} of {len(m.targets)} fit",
        note=", ".join(fitting) or "none",
        tone="good" if fitting else "bad",
    )


def _bits(m: BundleMeasures) -> str:
    if m.weight_bits is None:
        return "float32"
    low, high = m.weight_bits
    return f"{low} bits" if low == high else f"{low} to {high} bits"


def _energy(m: BundleMeasures) -> str:
    low, high = m.activity.energy.low_nanojoule, m.activity.energy.high_nanojoule
    return energy(low) if low == high else f"{energy(low)} to {energy(high)}"


def _compared_on(found: Sequence[BundleMeasures]) -> str:
    """Which samples the bundles of a comparison were measured on."""
    sources = list(dict.fromkeys(m.samples_from for m in found))
    if len(sources) == 1:
        return f"Each bundle on {sources[0]}."
    return "Each bundle on samples of its own, so that figures differ by chance, too."


def _comparison(found: Sequence[BundleMeasures]) -> Table:
    """One row per figure, one column per bundle."""
    rows: list[tuple[str, ...]] = [
        ("measured on", *(m.samples_from for m in found)),
        ("time steps", *(str(m.evaluation.graph.steps) for m in found)),
        ("weights", *map(_bits, found)),
        ("neurons", *(f"{resources(m).neurons:,}" for m in found)),
        ("parameters", *(size(resources(m).memory_bits / 8) for m in found)),
        *_figure_rows(found),
        ("spikes per sample", *(f"{m.activity.spikes:,.0f}" for m in found)),
        ("accumulates per sample", *(large(m.activity.acs) for m in found)),
        ("energy per sample, estimated", *map(_energy, found)),
        *_rows_of([chip_cost_tiles(m) for m in found]),
        ("certificate", *(_certificate_tile(m).value for m in found)),
        ("parity", *(m.parity.verdict for m in found)),
        ("fits", *(_targets_tile(m).note for m in found)),
    ]
    return Table(
        caption="Bundles side by side",
        columns=("", *(m.name for m in found)),
        rows=tuple(rows),
        words=frozenset(range(1 + len(found))),  # which wrap on a narrow screen
    )


def _figure_rows(found: Sequence[BundleMeasures]) -> list[tuple[str, ...]]:
    """The figures that any of the bundles has, in order."""
    return _rows_of([_accuracy_tiles(m) for m in found])


def _rows_of(found: Sequence[Sequence[Tile]]) -> list[tuple[str, ...]]:
    """A row per label, a column per bundle, from the tiles of each bundle."""
    tiles = [{t.label: f"{t.value} {t.note and f'({t.note})'}" for t in each} for each in found]
    labels = list(dict.fromkeys(label for each in tiles for label in each))
    return [(label, *(each.get(label, "").strip() for each in tiles)) for label in labels]
