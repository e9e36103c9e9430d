# Two commands: `make demo` and `make test`. Each creates the environments it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# onnxruntime and onnxruntime-gpu exclude each other: the machine decides.
RUNTIME ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
BIN := .venv/bin
LAVA_TESTS := $(wildcard tests/*/test_lava*.py tests/unit/lava/*.py)

.PHONY: setup demo test test-gpu test-lava test-lava-dl test-snn-mlir lint dist clean

setup: .venv/ready .venv-lava/icsnn-lava.json .venv-readers/icsnn-readers.json

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(RUNTIME),openvino,demo,examples,plots,dev]'
	touch $@

# What is ready is left as it is.
.venv-lava/icsnn-lava.json: .venv/ready
	$(BIN)/icsnn lava setup --at .venv-lava
	touch $@

# The other environment, .venv-sinabs, is made first.
.venv-readers/icsnn-readers.json: .venv/ready
	$(BIN)/icsnn readers setup
	touch $@

demo: setup
	$(BIN)/icsnn demo --out build/demo --overwrite

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint setup
	$(BIN)/python -m pytest

test-gpu: setup
	$(BIN)/python -m pytest -m cuda

# Lava plain on the Python it was made for, and with the shim on a later one.
test-lava: .venv/ready
	$(BIN)/icsnn lava setup --python 3.10 --at build/lava-3.10
	$(BIN)/icsnn lava setup --python 3.11 --at build/lava-3.11
	ICSNN_LAVA=build/lava-3.10 $(BIN)/python -m pytest $(LAVA_TESTS)
	ICSNN_LAVA=build/lava-3.11 $(BIN)/python -m pytest $(LAVA_TESTS)

# lava-dl's own reader of .net files, in an environment of 5.6 GB.
test-lava-dl: build/lava-dl/ready
	ICSNN_LAVA_DL=build/lava-dl/bin/python $(BIN)/python -m pytest -m lava_dl

build/lava-dl/ready: .venv/ready
	"$$($(BIN)/python -c 'from icsnn_deploy.lava.interpreters import find_interpreter as find; print(find("3.10").path)')" \
	  -m venv --clear build/lava-dl
	build/lava-dl/bin/python -m pip install --quiet lava-dl==0.6.0
	touch $@

# snn-mlir's check of exported chains, in an environment of 115 MB.
test-snn-mlir: build/snn-mlir/ready
	ICSNN_SNN_MLIR=build/snn-mlir/bin/snn-mlir $(BIN)/python -m pytest -m snn_mlir

build/snn-mlir/ready: .venv/ready
	$(PYTHON) -m venv --clear build/snn-mlir
	build/snn-mlir/bin/python -m pip install --quiet snn-mlir==1.0.0
	touch $@

dist: .venv/ready
	$(BIN)/python -m build

clean:
	rm -rf .venv .venv-lava .venv-readers .venv-sinabs build dist *.egg-info
