"""Layouts of an exported ONNX file: how its T steps are written.

choose.py       the layout that "auto" stands for
unrolled.py     every step written out
folded.py       layers once for all steps, only populations iterate
scan.py         as folded, with one Scan operator per population
step.py         a single step; membrane potentials are inputs and outputs
"""
