"""Exported ONNX files that tests change, and how such a file is refused."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest

from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.metadata import BLANK, CONTENT_KEY, content_hash


def refused(path: Path) -> str:
    """The message of the one error that reading gives, within a second of work."""
    begin = time.process_time()  # the clock on the wall runs for other programs, too
    with pytest.raises(ExportError) as caught:
        OnnxRuntimeSimulator(path)
    assert time.process_time() - begin < 1
    message = str(caught.value)
    assert str(path) in message
    assert "Export the network again" in message
    assert len(message) < 1000
    return message


def stamped(model: onnx.ModelProto) -> bytes:
    """The model with a content hash that fits: the hash guards against damage, not malice."""
    (entry,) = (entry for entry in model.metadata_props if entry.key == CONTENT_KEY)
    entry.value = BLANK
    entry.value = content_hash(model.SerializeToString(deterministic=True), BLANK) or ""
    data: bytes = model.SerializeToString(deterministic=True)
    return data
