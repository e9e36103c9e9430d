"""Compare an export in a bundle with what its exporter writes from the network now.

Exports are deterministic. So a file that this version wrote and that was changed since, in a single
number that no sample reaches, is found by its content; running it on samples finds it by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.difference import of_files
from icsnn_deploy.exporters.formats import Format, find_format
from icsnn_deploy.exporters.onnx.external_data import data_file
from icsnn_deploy.exporters.options import WrittenAs
from icsnn_deploy.leftovers import temporary_folder
from icsnn_deploy.version import __version__

State = Literal["identical", "equal", "other version", "not compared"]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """How the content of an export was compared.

    Attributes:
        state: "identical" byte for byte, or "equal" in every number and text; "other version":
            another version of this package wrote it, "not compared": its format can't be
            compared. The last two are told by their behaviour alone.
        version: that wrote it, where the file tells.
    """

    state: State
    version: str | None = None

    def __str__(self) -> str:
        match self.state:
            case "identical":
                return "as icsnn-deploy writes it, byte for byte"
            case "equal":
                return "as icsnn-deploy writes it, number for number"
            case "other version":
                return f"by icsnn-deploy {self.version!r:.40}, so compared by its behavior alone"
        return "a format that is compared by its behavior alone"


def check_contents(bundle: Bundle, export_format: str) -> Contents:
    """Compare an export of a bundle with what the exporter writes for the bundle's network.

    Args:
        bundle: an opened bundle.
        export_format: of one of its exports.

    Raises:
        ExportError: names the file and the first difference; or the export can't be read.
        BundleError: it is damaged.
    """
    entry, path = find_format(export_format), bundle.export(export_format)
    try:
        written = entry.read_written_as(path)
        if written is None:
            return Contents(state="not compared")
        if written.version != __version__:
            if written.version is None:
                raise ExportError(f"{path}: does not tell which version wrote it; export it again")
            return Contents(state="other version", version=written.version)
        is_identical, found = _compare(bundle, entry, path, written)
    except OSError as error:
        raise ExportError(f"{path}: can't be compared ({error})") from error
    if found is not None:
        raise ExportError(
            f"{path}: not what icsnn-deploy {__version__} writes for the network: {found}. Export "
            f"it again: icsnn export {bundle.path} --format {export_format}"
        )
    return Contents(state="identical" if is_identical else "equal", version=__version__)


def _compare(
    bundle: Bundle, entry: Format, path: Path, written: WrittenAs
) -> tuple[bool, str | None]:
    """Whether every byte is equal, and the first difference in content."""
    options, kind = written.options, entry.options_type()
    if options is None and kind is not None:
        options = kind()
    samples = bundle.samples() if entry.reference and bundle.has_samples else None
    with temporary_folder("verify") as folder:
        target = folder / path.name
        entry.write(bundle.network(), target, options, samples)
        beside = target.with_name(data_file(target))
        if beside.exists() != path.with_name(data_file(path)).exists():
            return False, f"{beside.name} {'missing' if beside.exists() else 'unexpected'}"
        pairs = [(beside, path.with_name(beside.name))] if beside.exists() else []
        if all(of_files(one, other) is None for one, other in [*pairs, (target, path)]):
            return True, None
        return False, entry.difference_of(target, path)
