"""The manifest of a bundle: its files, with the size and sha256 of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BundleError
from icsnn_deploy.events.binning import EventBins
from icsnn_deploy.graph.parts import Part, checked_parts
from icsnn_deploy.outside_json import json_text, parse_json
from icsnn_deploy.sources.options import LARGEST_IMAGE, ImageSize
from icsnn_deploy.version import __version__

FORMAT = "icsnn-bundle"
VERSION = 1
MANIFEST = "manifest.json"
_MAX_BYTES = 1 << 20  # the manifests that this package writes have a few thousand
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_FOLDER_DEPTH = 2  # an export may be a folder of files


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """The manifest's entry of one file."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of a bundle's manifest."""

    graph_hash: str
    ann_hash: str | None  # None: the network was not converted from an ANN
    files: Mapping[str, FileEntry]
    exports: Mapping[str, str]  # format: file name
    normalization: Normalization | None
    losses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of each export
    inputs: tuple[Part, ...] = ()  # the model's, where the network records them
    outputs: tuple[Part, ...] = ()
    rate_seed: int | None = None  # of Bernoulli spikes; None: deterministic, or not rate encoding
    event_bins: EventBins | None = None  # how event recordings are binned
    image_size: ImageSize | None = None  # that images get; None: their own

    def files_in(self, folder: str) -> tuple[str, ...]:
        """The files in the folder of an export; none where the export is a file."""
        return tuple(file for file in self.files if file.startswith(f"{folder}/"))

    def sha256_of_export(self, name: str) -> str:
        """The sha256 of an export's file; of a folder, that of its files' names and hashes."""
        inside = self.files_in(name)
        if not inside:
            return self.files[name].sha256
        lines = [f"{self.files[file].sha256}  {file}\n" for file in sorted(inside)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def without(self, *names: str) -> Manifest:
        """The manifest without these files, and without the exports that they hold."""
        return replace(
            self,
            files={
                file: entry
                for file, entry in self.files.items()
                if not any(is_or_holds(name, file) for name in names)
            },
            exports={f: name for f, name in self.exports.items() if name not in names},
        )

    def with_export(
        self,
        export_format: str,
        name: str,
        entries: Mapping[str, FileEntry],
        *,
        losses: Sequence[str],
        data_file: str,
    ) -> Manifest:
        """The manifest with an export added; it replaces a previous one of the same format.

        Args:
            export_format: name of the export format.
            name: file name of the export.
            entries: entries of the export's file, and of its data file if it has one; of an export
                that is a folder, those of its files.
            losses: what the format can't express of the network.
            data_file: name that a data file has; removed unless it is among the entries.
        """
        rest = self.without(name, data_file).files
        others = {f: lost for f, lost in self.losses.items() if f != export_format}
        return replace(
            self,
            files={**rest, **entries},
            exports={**self.exports, export_format: name},
            losses={**others, **({export_format: tuple(losses)} if losses else {})},
        )


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle; raises BundleError."""
    manifest = read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise BundleError(
            f"{folder / MANIFEST}: format {manifest.get('format')!r} version "
            f"{manifest.get('version')!r}; this program reads {FORMAT!r} {VERSION}"
        )
    try:
        files = {
            _safe_path(name): FileEntry(sha256=str(entry["sha256"]), size=int(entry["size"]))
            for name, entry in manifest["files"].items()
        }
        exports = {_safe_name(f): _safe_name(name) for f, name in manifest["exports"].items()}
        _check_folders(files, exports)
        losses = {f: tuple(map(str, lost)) for f, lost in manifest.get("losses", {}).items()}
        pixels = manifest["normalization"]
        normalization = pixels and Normalization(
            mean=tuple(map(float, pixels["mean"])), std=tuple(map(float, pixels["std"]))
        )
        return Manifest(
            graph_hash=str(manifest["graph_hash"]),
            ann_hash=None if manifest["ann_hash"] is None else str(manifest["ann_hash"]),
            files=files,
            exports=exports,
            normalization=normalization or None,
            losses=losses,
            inputs=_parts(manifest, "inputs"),
            outputs=_parts(manifest, "outputs"),
            rate_seed=_seed(manifest.get("rate_seed")),
            event_bins=_bins(manifest.get("event_bins")),
            image_size=_image_size(manifest.get("image_size")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"{folder / MANIFEST}: malformed ({error!r:.300})") from error


def _parts(manifest: Mapping[str, Any], key: str) -> tuple[Part, ...]:
    rows = [[row["name"], row["shape"], row["host_op"]] for row in manifest.get(key, [])]
    return checked_parts(key, rows)


def _seed(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"rate_seed {value!r}")
    return value


def _bins(value: Any) -> EventBins | None:
    if value is not None and value not in get_args(EventBins):
        raise ValueError(f"event_bins {value!r}")
    return cast("EventBins | None", value)


def _image_size(value: Any) -> ImageSize | None:
    if value is None:
        return None
    resize, crop = value["resize"], value["crop"]
    one = type(resize) is int
    given = [*([resize] if one else resize or []), *(crop or [])]
    if not given or any(type(n) is not int or not 0 < n <= LARGEST_IMAGE for n in given):
        raise ValueError(f"image_size {value!r:.80}")
    return ImageSize(
        resize=resize if one or resize is None else _pair(resize),
        crop=None if crop is None else _pair(crop),
    )


def _pair(values: list[int]) -> tuple[int, int]:
    height, width = values
    return height, width


def is_or_holds(name: str, file: str) -> bool:
    """Whether a file of a manifest is `name`, or lies in the folder of that name."""
    return file == name or file.startswith(f"{name}/")


def is_bundle_manifest(manifest: Path) -> bool:
    """Whether a file is a bundle's manifest, of any version and even if it is malformed."""
    try:
        return read_json(manifest).get("format") == FORMAT
    except BundleError:
        return False


def _safe_name(name: str) -> str:
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"file name {name!r}")
    return name


def _check_folders(files: Mapping[str, FileEntry], exports: Mapping[str, str]) -> None:
    """Check that every folder is that of an export; raises ValueError."""
    folders = {name.partition("/")[0] for name in files if "/" in name}
    if not folders.issubset(exports.values()) or not folders.isdisjoint(files):
        raise ValueError(f"folders {sorted(folders)}, exports {sorted(exports.values())}")


def _safe_path(name: str) -> str:
    """A file's name, or that of an export's folder and a file in it: FOLDER/FILE."""
    parts = name.split("/")
    if len(parts) > _FOLDER_DEPTH:
        raise ValueError(f"file name {name!r}")
    return "/".join(map(_safe_name, parts))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest atomically."""
    pixels = manifest.normalization
    content = {
        "format": FORMAT,
        "version": VERSION,
        "producer": f"icsnn-deploy {__version__}",
        "graph_hash": manifest.graph_hash,
        "ann_hash": manifest.ann_hash,
        "files": {n: {"sha256": e.sha256, "size": e.size} for n, e in manifest.files.items()},
        "exports": dict(manifest.exports),
        "losses": dict(manifest.losses),
        "normalization": pixels and {"mean": pixels.mean, "std": pixels.std},
        **({"inputs": [part._asdict() for part in manifest.inputs]} if manifest.inputs else {}),
        **({"outputs": [part._asdict() for part in manifest.outputs]} if manifest.outputs else {}),
        **({} if manifest.rate_seed is None else {"rate_seed": manifest.rate_seed}),
        **({"event_bins": manifest.event_bins} if manifest.event_bins else {}),
        **({"image_size": asdict(manifest.image_size)} if manifest.image_size else {}),
    }
    with atomic_write(folder / MANIFEST) as draft:
        draft.write_bytes(json_bytes(content))


def json_bytes(value: Any) -> bytes:
    """Serialize to the JSON of a bundle's files: sorted and indented."""
    return json_text(value, indent=2, sort_keys=True).encode() + b"\n"


def read_json(path: Path, *, limit: int = _MAX_BYTES) -> dict[str, Any]:
    """Read the JSON object in a file of at most `limit` bytes; raises BundleError."""
    try:
        if path.is_symlink() or not path.is_file():  # reading a pipe would block
            raise BundleError(f"{path}: missing, or not a regular file")
        if path.stat().st_size > limit:
            raise BundleError(
                f"{path}: {path.stat().st_size} bytes, at most {limit} are allowed; it was not "
                "written by icsnn-deploy"
            )
        value = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path}: a JSON object is needed")
    return value


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
