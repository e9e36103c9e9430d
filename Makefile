# Two commands: `make demo` and `make test`. Each creates the environment it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# onnxruntime and onnxruntime-gpu exclude each other: the machine decides.
RUNTIME ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
BIN := .venv/bin

.PHONY: setup demo test test-gpu lint dist clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(RUNTIME),openvino,demo,examples,dev]'
	touch $@

demo: setup
	$(BIN)/icsnn demo --out build/demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

test-gpu: setup
	$(BIN)/python -m pytest -m cuda

dist: setup
	$(BIN)/python -m build

clean:
	rm -rf .venv build dist *.egg-info
