"""The page of the coverage run: what converts, what is refused and why, what certifies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from coverage_blockers import rank, reasons
from coverage_results import Key, Record
from coverage_zoo import Architecture

from icsnn_deploy.atomic import atomic_write

_NAMES = {
    "plain": "Written with plain modules",
    "smp": "segmentation-models-pytorch",
}
_FAULTS = ("wrong", "imprecise", "crashed", "limit", "unbuildable")

_INTRODUCTION = """\
# Coverage

Which public architectures convert. The page is written by

    make coverage

which builds each architecture with random weights and random batch-norm statistics, traces it to an
ANN graph, and compares the graph with the model in double precision, on other inputs than those of
the trace. *Difference* is the largest difference over the range of the model's output (its largest
minus its smallest value); up to 1e-5 a network counts as converted. *Float32* is the same figure
for the model itself, run in float32 instead of double precision. *Neurons* are those of the ANN
graph. The smallest third of the converted networks of float inputs goes on: recipe `opi` at T =
4, 8-bit weights, exported to NIR and ONNX, and compared spike for spike with the int64 reference on
`torch`, `onnxruntime` and `nir`.

An architecture is *smooth* where one of its operators is neither linear nor piecewise linear (a
sigmoid, a product of two tensors); operators at its very end do not count, since the host computes
them. Such a network has no exact equivalent; every other one has.

The architectures are small variants of each family in the libraries
([list](../../benchmarks/coverage_lists.py)), and models written out with plain modules:
[classifiers](../../benchmarks/coverage_classifiers.py),
[audio and time series](../../benchmarks/coverage_audio.py),
[dense output](../../benchmarks/coverage_dense.py),
[detection](../../benchmarks/coverage_detection.py),
[generative](../../benchmarks/coverage_generative.py),
[sets, graphs and text](../../benchmarks/coverage_sets.py),
[other structures](../../benchmarks/coverage_structure.py).
"""


def write_page(
    path: Path, found: Mapping[Key, Record], architectures: Sequence[Architecture]
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the Markdown file.
        found: results by stage and name; architectures without a result are left out.
        architectures: in the order of the page.
    """
    with atomic_write(path) as draft:
        draft.write_text(page(found, architectures))


def page(found: Mapping[Key, Record], architectures: Sequence[Architecture]) -> str:
    """The page's text."""
    records = [found["trace", one.name] for one in architectures if ("trace", one.name) in found]
    deployed = {name: record for (stage, name), record in found.items() if stage == "deploy"}
    fitted = {name: record for (stage, name), record in found.items() if stage == "approximate"}
    versions = found.get(("versions", "versions"), {}).get("versions", {})
    parts = [_INTRODUCTION]
    if versions:
        parts.append(", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n")
    parts += ["## Summary\n", _summary(records), "## What holds networks back\n"]
    exact = [record for record in records if not record.get("smooth")]
    parts += ["Architectures that are not smooth:\n", _blockers(exact)]
    smooth = [record for record in records if record.get("smooth")]
    parts += ["Smooth ones, by the operators that make them so:\n", _operators(smooth)]
    if fitted:
        refused = sum(record["status"] == "refused" for record in records)
        parts += ["## With approximations\n", _approximated(fitted, refused)]
    parts += ["## On the integer lattice\n", _lattice(deployed)]
    for library in dict.fromkeys(one.library for one in architectures):
        rows = [record for record in records if record["name"].startswith(f"{library}/")]
        if rows:
            parts += [f"## {_NAMES.get(library, library)}\n", _networks(rows, deployed, fitted)]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; columns after the first that hold numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        bool(i) and all(row[i].replace(",", "").replace(" ", "").isdigit() for row in cells)
        for i in range(len(head))
    ]
    rule = "|" + "|".join("---:" if one else "---" for one in right) + "|"
    lines = ["| " + " | ".join(row) + " |" for row in ([*head], *cells)]
    return "\n".join([lines[0], rule, *lines[1:], ""])


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _summary(records: Sequence[Record]) -> str:
    libraries = list(dict.fromkeys(record["name"].partition("/")[0] for record in records))
    groups = [
        (
            _NAMES.get(library, library),
            [record for record in records if record["name"].startswith(f"{library}/")],
        )
        for library in libraries
    ]
    head = ("", "architectures", "convert", "not smooth", "of these convert", "refused", *_FAULTS)
    return table(head, (_counts(name, rows) for name, rows in [*groups, ("all", records)]))


def _counts(name: str, records: Sequence[Record]) -> tuple[object, ...]:
    exact = [record for record in records if not record.get("smooth")]

    def count(status: str, among: Sequence[Record] = records) -> int:
        return sum(record["status"] == status for record in among)

    return (
        name,
        len(records),
        count("converts"),
        len(exact),
        count("converts", exact),
        count("refused"),
        *(count(status) for status in _FAULTS),
    )


def _blockers(records: Sequence[Record]) -> str:
    blockers = rank(records)
    if not blockers:
        return "None: all of them convert.\n"
    rows = [
        (one.label, len(one.networks), len(one.alone), ", ".join(_short(one.networks)))
        for one in blockers
    ]
    return table(("reason", "networks", "alone", "such as"), rows)


def _short(names: Sequence[str], most: int = 3) -> list[str]:
    return [*names[:most], *(["..."] if len(names) > most else [])]


def _operators(records: Sequence[Record]) -> str:
    labels = sorted({label for record in records for label in record["smooth"]})
    counts = [
        (
            label,
            sum(label in record["smooth"] for record in records),
            sum(record["smooth"] == [label] for record in records),
        )
        for label in labels
    ]
    counts.sort(key=lambda row: (-row[1], row[0]))
    return table(("operator", "networks", "alone"), counts)


def _lattice(deployed: Mapping[str, Record]) -> str:
    certified = [record for record in deployed.values() if record["status"] == "certified"]
    spikes: dict[str, int] = {}
    mismatches: dict[str, int] = {}
    for record in deployed.values():
        for backend, number in record.get("mismatches", {}).items():
            mismatches[backend] = mismatches.get(backend, 0) + number
            spikes[backend] = spikes.get(backend, 0) + record["spikes"][backend]
    compared = "; ".join(
        f"`{backend}`: {mismatches[backend]:,} of {spikes[backend]:,} spikes differ"
        for backend in spikes
    )
    text = f"{len(certified)} of {len(deployed)} networks certify and pass"
    text += f". {compared}.\n" if compared else ".\n"
    rest = [record for record in deployed.values() if record["status"] != "certified"]
    if not rest:
        return text
    rows = [
        (record["name"], record["status"], _first_line(record.get("error", ""))) for record in rest
    ]
    return f"{text}\n{table(('network', 'result', 'reason'), rows)}"


def _approximated(fitted: Mapping[str, Record], refused: int) -> str:
    """How many of the refused networks are fitted."""
    done = sum(record["status"] == "approximated" for record in fitted.values())
    return (
        f"{len(fitted)} of the {refused} refused networks were tried with `--approximate` and its "
        f"default number of knots: {done} convert. The last column has the rms difference of the "
        "outputs from those of the model over their range, on samples that the fits did not see; "
        "weights are random.\n"
    )


def _networks(
    records: Sequence[Record], deployed: Mapping[str, Record], fitted: Mapping[str, Record]
) -> str:
    head = ["architecture", "input", "result", "difference", "float32", "neurons", "8 bits"]
    if fitted:
        head.append("approximated")
    rows = []
    for record in records:
        row = _row(record, deployed.get(record["name"]))
        rows.append((*row, _fit(fitted.get(record["name"]))) if fitted else row)
    return table(head, rows)


def _fit(fitted: Record | None) -> str:
    """Fits and error of an approximated network."""
    if fitted is None or fitted["status"] != "approximated":
        return "" if fitted is None else fitted["status"]
    return f"{fitted['fits']} fits, {fitted['rms']:.1%}"


def _row(record: Record, deployed: Record | None) -> tuple[object, ...]:
    shapes = " and ".join("x".join(map(str, shape)) for shape in record.get("inputs", ()))
    result = record["status"]
    if result == "refused":
        labels = record.get("smooth") or sorted(reasons(record))
        result = f"{'smooth' if record.get('smooth') else 'refused'}: {', '.join(labels)}"
    elif result not in ("converts",):
        result = f"{result}: {_first_line(record.get('error', ''), last=True)}"
    figures = ["", ""]
    if "difference" in record:
        figures = [f"{record[key]:.0e}" for key in ("difference", "rounding")]
    lattice = ""
    if deployed:
        lattice = deployed["status"]
        bits = deployed.get("bits")
        if lattice == "certified" and bits and bits != [8]:
            lattice += f", {bits[0]} to {bits[-1]} bits" if bits[1:] else f", {bits[0]} bits"
    name = record["name"].partition("/")[2]
    return (name, shapes, result, *figures, record.get("neurons", ""), lattice)


def _first_line(text: str, last: bool = False) -> str:
    lines = text.strip().splitlines() or [""]
    return lines[-1 if last else 0][:160]
