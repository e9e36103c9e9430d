"""The deployment bundle: one folder that holds a network and everything made from it.

    graph.safetensors     the IF network
    ann.safetensors       the traced ANN that it was converted from, if any
    samples.safetensors   a few calibration samples to run it on, if any were given
    report.json           how it was converted, or which file it was read from
    golden.safetensors    golden spikes: an integer network's spikes for the samples
    network.nir, ...      exports, added as they are written; one may be a folder of files
    manifest.json         the list of files, with the size and sha256 of each

A file is used only if its size and hash are those in the manifest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from icsnn_deploy.atomic import restore_folder
from icsnn_deploy.bundle.add_export import add_export, replaced
from icsnn_deploy.bundle.manifest import (
    MANIFEST,
    Manifest,
    read_json,
    read_manifest,
    sha256_of,
)
from icsnn_deploy.bundle.swap import DATA, settle_if_needed
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BundleError
from icsnn_deploy.events.binning import EventBins
from icsnn_deploy.graph.file import read_graph
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.notebook import object_html
from icsnn_deploy.sources.options import ImageSize


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle: a folder and its manifest. Each file is checked when it is used."""

    path: Path
    manifest: Manifest

    def __repr__(self) -> str:
        return f"<Bundle: {self.path}, network {self.graph_hash[:12]}>"

    def _repr_html_(self) -> str:
        """What notebooks show: a row per file."""
        formats = {name: export for export, name in self.exports.items()}
        rows = (
            (name, formats.get(name.partition("/")[0], ""), f"{entry.size:,}", entry.sha256[:12])
            for name, entry in self.manifest.files.items()
        )
        columns = ("file", "export", "bytes", "sha256")
        return object_html(repr(self), columns, rows, count=len(self.manifest.files))

    @property
    def graph_hash(self) -> str:
        """Hash of the IF network, as the manifest states it."""
        return self.manifest.graph_hash

    @property
    def ann_hash(self) -> str | None:
        """Hash of the traced ANN; None if the network was not converted from one."""
        return self.manifest.ann_hash

    @property
    def normalization(self) -> Normalization | None:
        """Normalization of the pixels, if the network takes pixels."""
        return self.manifest.normalization

    @property
    def image_size(self) -> ImageSize | None:
        """What size images get; None: that of the images, or the network takes none."""
        return self.manifest.image_size

    @property
    def takes_arrays_unchanged(self) -> bool:
        """Whether arrays are the network's input as they are: it has no ANN that takes samples."""
        return self.ann_hash is None and self.normalization is None

    @property
    def rate_seed(self) -> int | None:
        """Seed of the Bernoulli spikes of rate encoding; None: deterministic spikes."""
        return self.manifest.rate_seed

    @property
    def event_bins(self) -> EventBins | None:
        """How event recordings are binned; None: the network was not made for recordings."""
        return self.manifest.event_bins

    @property
    def exports(self) -> Mapping[str, str]:
        """File name of each export, by format."""
        return self.manifest.exports

    def file(self, name: str) -> Path:
        """Path of a file of the bundle, checked; raises BundleError."""
        try:
            return self._checked_file(name)
        except (BundleError, OSError) as error:
            if name in self.manifest.files:
                self.require_current([name])
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"{self.path / name}: can't be read ({error.strerror})") from error

    def _checked_file(self, name: str) -> Path:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(
                f"{self.path}: holds no {name}; it holds {', '.join(self.manifest.files)}"
            )
        path = self.path / name
        if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            state = "not a regular file" if os.path.lexists(path) else "missing"
            raise BundleError(f"{path}: {state}, but the manifest lists it; the bundle is damaged")
        size = path.stat().st_size
        if size != entry.size:
            raise BundleError(
                f"{path}: {size} bytes, the manifest says {entry.size}; the file is damaged"
            )
        digest = sha256_of(path)
        if digest != entry.sha256:
            raise BundleError(
                f"{path}: sha256 {digest[:12]}..., the manifest says {entry.sha256[:12]}...; the "
                "file was changed after it was written. Make it again"
            )
        return path

    def check_files(self) -> None:
        """Check every file that the manifest lists; raises BundleError."""
        for name in self.manifest.files:
            self.file(name)

    def export(self, export_format: str) -> Path:
        """Path of an exported file, checked together with its data file, if it has one.

        Of an export that is a folder, every file that the manifest lists is checked; what else lies
        in the folder, such as object files, is not part of the export.

        Raises:
            BundleError: names the command to run, or the file that is damaged.
        """
        name = self.exports.get(export_format)
        if name is None:
            raise BundleError(
                f"{self.path}: no {export_format} export; run: "
                f"icsnn export {self.path} --format {export_format}"
            )
        data_file = name + DATA
        if data_file in self.manifest.files:
            self.file(data_file)
        elif os.path.lexists(self.path / data_file):
            raise BundleError(
                f"{self.path / data_file}: exists, but the manifest does not list it; remove it"
            )
        inside = self.manifest.files_in(name)
        for file in inside:
            self.file(file)
        return self.path / name if inside else self.file(name)

    def network(self) -> Graph:
        """The IF network; the same object at every call. Raises BundleError."""
        return self._network

    @cached_property
    def _network(self) -> Graph:
        network = self._graph("graph.safetensors", self.graph_hash)
        stated = (self.manifest.inputs, self.manifest.outputs)
        if stated != (network.input.parts, network.output.parts):
            raise BundleError(
                f"{self.path / MANIFEST}: inputs and outputs other than the network has; make the "
                "bundle again"
            )
        return network

    def ann(self) -> Graph:
        """The traced ANN; raises BundleError, also if the bundle has none."""
        if self.ann_hash is None:
            raise BundleError(f"{self.path}: holds no ANN; its network was not converted from one")
        return self._graph("ann.safetensors", self.ann_hash)

    def _graph(self, name: str, expected: str) -> Graph:
        graph = read_graph(self.file(name))
        if graph.hash() != expected:
            self.require_current([name])
            raise BundleError(f"{self.path / name}: graph hash {graph.hash()}, expected {expected}")
        return graph

    @property
    def has_samples(self) -> bool:
        """Whether samples came with the bundle."""
        return "samples.safetensors" in self.manifest.files

    def samples(self) -> Array:
        """The samples that came with the bundle, [N, *input shape]; spikes [T, N, *input shape]."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not self.has_samples:
            raise BundleError(f"{self.path}: holds no samples; give some with --images")
        path = self.file("samples.safetensors")
        try:
            inputs = load_file(path)["inputs"]
            self.require_current([path.name])
            return inputs
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"{path}: no array 'inputs' ({error}); create the bundle again"
            ) from (error)

    def report(self) -> dict[str, Any]:
        """The conversion report, as JSON values."""
        return read_json(self.file("report.json"))

    def with_export(
        self,
        export_format: str,
        name: str,
        write: Callable[[Path], None],
        *,
        losses: Sequence[str] = (),
    ) -> Bundle:
        """Write an export into the bundle; the manifest never names a partly written file.

        Args:
            export_format: name of the export format.
            name: file name inside the bundle.
            write: writes the file to the given path; or a folder of files, which are then listed
                in the manifest one by one.
            losses: what the format can't express of the network, one sentence each.

        Raises:
            BundleError: the export can't be written, or another command has put another network
                in the bundle; it is unchanged.
        """
        manifest = add_export(self.path, self.manifest, export_format, name, write, losses=losses)
        return replace(self, manifest=manifest)

    def require_current(self, names: Iterable[str]) -> None:
        """Raise BundleError if another command has changed one of these files since it was opened.

        A file that was checked, then read, and is current after that, is what was checked.
        """
        try:
            current = read_manifest(self.path).files
        except BundleError as error:
            raise replaced(self.path) from error
        if any(current.get(name) != self.manifest.files.get(name) for name in names):
            raise replaced(self.path)

    def files_of(self, export_format: str) -> tuple[str, ...]:
        """The files of an export, as the manifest lists them."""
        name = self.exports[export_format]
        beside = tuple(file for file in (name, name + DATA) if file in self.manifest.files)
        return (*beside, *self.manifest.files_in(name))


def as_bundle(given: Bundle | str | os.PathLike[str]) -> Bundle:
    """A bundle, or the one at a path, opened; raises BundleError."""
    if isinstance(given, Bundle):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise BundleError(
            f"a bundle of type {type(given).__name__}: a Bundle or the path of one is needed, as "
            "conversion.save(path) and quantization.save(path) make them"
        )
    return open_bundle(given)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and check its manifest; raises BundleError.

    What a killed command had finished but not yet moved into place is moved now.
    """
    path = Path(path)
    try:
        with suppress(PermissionError):
            restore_folder(path)
        exists = path.is_dir()
    except OSError as error:  # a name that the file system does not accept
        raise BundleError(f"{path}: {error.strerror}") from error
    if not exists:
        raise BundleError(f"{path}: no such bundle; make one with icsnn convert")
    settle_if_needed(path)
    return Bundle(path=path, manifest=read_manifest(path))
