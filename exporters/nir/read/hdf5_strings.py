"""Check the variable-length strings of an HDF5 file in its raw bytes.

The HDF5 library (2.0.0) never returns from a heap with an entry of size 0, and many strings may
point at one long text. So the amount to read is measured before the library reads it.

    element of an array     length (4), address of its heap (8), index in it (4)
    heap                    "GCOL", version 1, 0 (3), size (8), then entries
    entry                   index (2), references (2), 0 (4), size (8), data padded to 8 bytes;
                            index 0 is the free space up to the end, header included
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from icsnn_deploy.errors import GraphError

_ELEMENT = 16
_HEAD = 16


class StringHeaps:
    """The heaps of one file, each read once."""

    def __init__(self, raw: BinaryIO, file_size: int) -> None:
        self._raw = raw
        self._file_size = file_size
        self._heaps: dict[int, dict[int, int]] = {}

    def total_length(self, start: int, count: int) -> int:
        """Total bytes of all strings of a contiguous array.

        Args:
            start: offset of its first element in the file.
            count: number of elements.

        Raises:
            GraphError: elements, heaps or strings that lie outside, overlap or do not exist.
        """
        if start < 0 or start + count * _ELEMENT > self._file_size:
            raise GraphError("strings beyond the end of the file")
        self._raw.seek(start)
        total = 0
        for length, address, index in struct.iter_unpack("<IQI", self._raw.read(count * _ELEMENT)):
            if length == 0 and address == 0:
                continue  # never written: empty
            if address not in self._heaps:
                self._heaps[address] = self._heap(address)
            if length > self._heaps[address].get(index, -1):
                raise GraphError("a string longer than its place in the file")
            total += length
        return total

    def _heap(self, address: int) -> dict[int, int]:
        """Size of each entry by its index."""
        if address + _HEAD > self._file_size:
            raise GraphError("a text heap beyond the end of the file")
        self._raw.seek(address)
        signature, version, size = struct.unpack("<4sB3xQ", self._raw.read(_HEAD))
        if signature != b"GCOL" or version != 1 or not _HEAD <= size <= self._file_size - address:
            raise GraphError("a damaged text heap")
        data = self._raw.read(size - _HEAD)
        entries: dict[int, int] = {}
        position = 0
        while position + _HEAD <= len(data):
            index, length = struct.unpack_from("<H6xQ", data, position)
            if index == 0:
                if length != len(data) - position:
                    raise GraphError("a text heap whose free space is not its end")
                break
            position += _HEAD + (length + 7) // 8 * 8
            if index in entries or position > len(data):
                raise GraphError("a text heap whose entries overlap")
            entries[index] = length
        return entries
