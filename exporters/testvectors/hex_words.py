"""Integers as words in hexadecimal, one per line, in two's complement: what $readmemh reads."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.graph.certificate import signed_bits
from icsnn_deploy.graph.neuron import Array

_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def word_bits(low: int, high: int) -> int:
    """Width of signed words for low..high: the narrowest that is a multiple of 4, one per digit."""
    return digits_of(signed_bits(low, high)) * 4


def digits_of(bits: int) -> int:
    """Hexadecimal digits of a word."""
    return (bits + 3) // 4


def line_bytes(bits: int) -> int:
    """Size of the line of one word."""
    return digits_of(bits) + 1


def hex_lines(values: Array, bits: int) -> bytes:
    """The words of a file.

    Args:
        values: integers of any shape, in C order, that `bits` can hold.
        bits: width of a word, at most 64.

    Returns:
        a line of digits_of(bits) digits for each value.
    """
    digits = digits_of(bits)
    flat = values.reshape(-1).astype(np.int64)
    lines = np.empty((flat.size, digits + 1), np.uint8)
    for place in range(digits):
        lines[:, place] = _DIGITS[(flat >> 4 * (digits - 1 - place)) & 15]
    lines[:, digits] = ord("\n")
    return lines.tobytes()
