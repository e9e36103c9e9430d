"""Scan an HDF5 file before anything parses it, and refuse what no network needs.

HDF5 follows links into other files, returns sectors of any file as the data of an array, and lets
64 KiB declare terabytes. The scan reads headers and lengths of strings only; a file that passes can
be loaded in bounded time and memory.
"""

from __future__ import annotations

import math
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters.nir.read.hdf5_strings import StringHeaps

MOST_OBJECTS = 12_000
"""About 1,200 nodes of a network; h5py needs a second for as many objects."""
MOST_DEPTH = 12
MOST_CHUNKS = 20_000
MOST_BYTES = 2**31
SLACK = 64 * 2**20
"""Declared bytes that are allowed for any file: small constant arrays compress a thousandfold."""
_SIZES = frozenset(
    (
        *("shape", "input_shape", "input_type", "output_type", "kernel_size", "stride", "padding"),
        *("dilation", "groups", "start_dim", "end_dim"),
    )
)
"""Arrays of sizes along axes, which readers turn into Python numbers one by one."""
_MOST_SIZES = 64
_LZF_RATIO = 132  # a 2-byte match token of LZF copies at most 264 bytes
_HARMLESS = 2**16  # stored bytes of a chunk: deflate expands them 1032 times at most, to SLACK


class _RefusedError(Exception):
    """Something that is refused; `scan` adds the file's name."""


def scan(path: str | os.PathLike[str]) -> None:
    """Check that a file is HDF5 and holds only plain arrays and strings of reasonable size.

    Raises:
        ExportError: names the file, what was found and what to do.
    """
    file = Path(path)
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        raise ExportError(f"{file}: can't be read ({error}); check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise ExportError(f"{file}: not a regular file; pass the path of a NIR file")
    import h5py

    try:
        with h5py.File(file, "r") as opened, file.open("rb") as raw:
            heaps = StringHeaps(raw, status.st_size)
            _Scan(h5py=h5py, file_size=status.st_size, heaps=heaps).run(opened)
    except _RefusedError as error:
        raise ExportError(
            f"{file}: {error}. A NIR file needs no such thing: do not use it, write it again"
        ) from error
    except Exception as error:  # h5py raises nearly any type for a damaged file
        raise ExportError(
            f"{file}: not a readable HDF5 file ({type(error).__name__}: {error}); it is truncated, "
            "damaged or something else: write it again"
        ) from error


@dataclass(kw_only=True)
class _Scan:
    h5py: Any
    file_size: int
    heaps: StringHeaps
    seen: set[int] = field(default_factory=set)
    listed: int = 1  # objects that are known, the root among them
    declared: int = 0
    chunks: int = 0

    def run(self, opened: Any) -> None:
        """Visit every object once, without recursion."""
        if opened.userblock_size:
            raise _RefusedError("there is foreign data before the HDF5 part")
        if opened.id.get_create_plist().get_sizes() != (8, 8):
            raise _RefusedError("its addresses are not 8 bytes long")
        waiting = [(opened.id, "", 0)]
        self._visit(opened.id, "/")
        self._list(opened.id)
        while waiting:
            group, path, depth = waiting.pop()
            for name, child in self._children(group, path):
                where = f"{path}/{name}"
                self._visit(child, where)
                if isinstance(child, self.h5py.h5g.GroupID):
                    if depth + 1 > MOST_DEPTH:
                        raise _RefusedError(f"{where!r} lies deeper than {MOST_DEPTH} groups")
                    self._list(child)
                    waiting.append((child, where, depth + 1))
                elif isinstance(child, self.h5py.h5d.DatasetID):
                    self._dataset(child, where)
                else:
                    raise _RefusedError(f"{where!r} is neither a group nor an array")

    def _children(self, group: Any, path: str) -> Iterator[tuple[str, Any]]:
        for raw_name in group:
            name = raw_name.decode("utf8", "backslashreplace")
            kind = group.links.get_info(raw_name).type
            if kind != self.h5py.h5l.TYPE_HARD:
                label = {
                    self.h5py.h5l.TYPE_SOFT: "a soft link",
                    self.h5py.h5l.TYPE_EXTERNAL: "a link into another file",
                }.get(kind, "a user-defined link")
                raise _RefusedError(f"{path}/{name!r} is {label}")
            yield name, self.h5py.h5o.open(group, raw_name)

    def _list(self, group: Any) -> None:
        """Count what a group holds before any of it is visited: every link is an object."""
        self.listed += group.get_num_objs()
        if self.listed > MOST_OBJECTS:
            raise _RefusedError(f"more than {MOST_OBJECTS} objects")

    def _visit(self, item: Any, where: str) -> None:
        # a second way to the same object is a cycle, or makes the reader load it many times
        address = self.h5py.h5o.get_info(item).addr
        if address in self.seen:
            raise _RefusedError(f"{where!r} is linked more than once")
        self.seen.add(address)

    @property
    def allowed(self) -> int:
        return min(4 * self.file_size + SLACK, MOST_BYTES)

    def _declare(self, count: int, where: str) -> None:
        self.declared += count
        if self.declared > self.allowed:
            raise _RefusedError(
                f"{where!r} brings the declared data to {self.declared} bytes, "
                f"{self.allowed} are allowed for a file of {self.file_size}"
            )

    def _dataset(self, dataset: Any, where: str) -> None:
        h5py = self.h5py
        layout = dataset.get_create_plist()
        if layout.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise _RefusedError(f"{where!r} is a virtual array that collects data from elsewhere")
        if layout.get_external_count():
            raise _RefusedError(f"{where!r} keeps its data in another file")
        if dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            raise _RefusedError(f"{where!r} is an array without data")
        chunked = layout.get_layout() == h5py.h5d.CHUNKED
        kind = dataset.get_type()
        size = kind.get_size()
        count = math.prod(dataset.shape)
        if count > _MOST_SIZES and where.rpartition("/")[2] in _SIZES:
            raise _RefusedError(f"{where!r} has {count} values, one per axis are needed")
        self._declare(size * count, where)
        if kind.get_class() == h5py.h5t.STRING:
            if kind.is_variable_str():
                self._strings(dataset, count, where)
        elif kind.get_class() == h5py.h5t.ENUM:
            if dataset.dtype != bool:
                raise _RefusedError(f"{where!r} has an enumeration type")
        elif kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) or size > 16:
            raise _RefusedError(f"{where!r} holds neither numbers nor strings")
        if chunked:
            self._chunked(dataset, layout, size * math.prod(layout.get_chunk()), where)

    def _strings(self, dataset: Any, count: int, where: str) -> None:
        """Add up the lengths of variable-length strings; many may point at one long text."""
        start = dataset.get_offset()
        if start is None:
            if dataset.get_storage_size() == 0:
                return  # never written: every element is empty
            raise _RefusedError(f"{where!r} holds variable-length strings that are not contiguous")
        try:
            self._declare(self.heaps.total_length(start, count), where)
        except GraphError as error:
            raise _RefusedError(f"{where!r} holds {error}") from error

    def _chunked(self, dataset: Any, layout: Any, chunk_bytes: int, where: str) -> None:
        z = self.h5py.h5z
        known = (z.FILTER_DEFLATE, z.FILTER_SHUFFLE, z.FILTER_FLETCHER32, z.FILTER_LZF)
        filters = [layout.get_filter(index) for index in range(layout.get_nfilters())]
        codes = [code for code, *_ in filters]
        if any(code not in known for code in codes) or len(set(codes)) != len(codes):
            raise _RefusedError(
                f"{where!r} needs filters other than gzip, lzf and shuffle, each once"
            )
        if z.FILTER_DEFLATE in codes and z.FILTER_LZF in codes:
            raise _RefusedError(f"{where!r} is compressed twice")
        self._declare(chunk_bytes, where)
        self.chunks += dataset.get_num_chunks()
        if self.chunks > MOST_CHUNKS:
            raise _RefusedError(f"more than {MOST_CHUNKS} chunks")
        for index in range(dataset.get_num_chunks()):
            info = dataset.get_chunk_info(index)
            if info.size > self.file_size:
                raise _RefusedError(f"{where!r} has a chunk larger than the file")
            if z.FILTER_DEFLATE in codes:
                self._inflates_to(dataset, info, chunk_bytes, where)
            elif z.FILTER_LZF in codes:
                # the filter allocates what its own parameter says
                declared = next(values[2] for code, _, values, _ in filters if code == z.FILTER_LZF)
                self._declare(max(0, declared - chunk_bytes), where)
                if info.size * _LZF_RATIO > self.allowed:
                    raise _RefusedError(f"{where!r} has a chunk that may expand beyond all bounds")

    def _inflates_to(self, dataset: Any, info: Any, chunk_bytes: int, where: str) -> None:
        """Refuse a chunk whose gzip stream goes on after the chunk is full."""
        if info.size <= _HARMLESS:
            return
        _, stored = dataset.read_direct_chunk(info.chunk_offset)
        stream = zlib.decompressobj()
        stream.decompress(stored, chunk_bytes)
        if not stream.eof and stream.decompress(stream.unconsumed_tail, 1):
            raise _RefusedError(f"{where!r} has a chunk that expands beyond its declared size")
