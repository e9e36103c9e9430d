"""ONNX files: written, and checked before a runtime runs them.

contract.py         options, layouts, tensor names, operators: what both directions share
formats.py          the formats onnx and onnx-step
write.py            a graph -> a file
operators.py        each node as ONNX operators; OnnxWriter collects them
time_split.py       the nodes that are constant, run per step, or read out
layouts/            how T steps are written: unrolled, folded, scan, step
parts.py            inputs and outputs of the model as tensors of their own
parts_metadata.py   the same in the metadata
parts_read.py       the same in a file that is read: checked
metadata.py         what the file says about itself, and its content hash
external_data.py    parameters in a second file, for networks beyond 2 GB
read.py             a file -> OnnxFile, after every check
read_checks.py      finds what the exporter never writes
"""
