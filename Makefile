# `make demo`, `make test`, and `make quick` for daily work. Each creates the environments it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# onnxruntime and onnxruntime-gpu exclude each other: the machine decides.
RUNTIME ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
BIN := .venv/bin
# Processes that tests run in; NAME=VALUE on the command line changes it, as all that is set here.
WORKERS ?= auto
# What `make quick` leaves out, beside what every other target leaves out.
QUICK := not slow and not cuda and not lava_dl and not snn_mlir and not keras and not triton and not rtl and not browser and not nengo_loihi and not sanafe and not brian2
# Of `make gpu-check`: the interpreter, the folder of the table, and the time it may take.
GPU_PYTHON ?= $(firstword $(wildcard $(BIN)/python) python3)
OUT ?= build
GPU_SECONDS ?= 420
# What the check imports beside torch, NumPy and safetensors.
GPU_WHEELS := lazy_loader packaging typing_extensions
# Networks that `make coverage` measures at a time.
JOBS ?= 1
# PyTorch of `make test-lowest`: cpu, from download.pytorch.org (200 MB), or auto, from PyPI (CUDA
# build, several GB with what it depends on).
LOWEST_TORCH ?= cpu
# Of `make test-wheels`: versions, extras (all where it is empty), and where torch comes from.
PYTHONS ?= 3.10,3.11,3.12
EXTRAS ?=
WHEEL_TORCH ?= cpu
LAVA_TESTS := $(wildcard tests/*/test_lava*.py tests/unit/lava/*.py)

# Random models of `make sweep-front-end`; inputs of each format of `make fuzz`.
COUNT ?= 3000
# Of `make fuzz`: the seed, and commands that are ended, and pairs of commands.
SEED ?= 0
ENDS ?= 100

.PHONY: setup demo lint quick test links docs sweep-kernels sweep-front-end fuzz coverage test-lowest \
	test-gpu gpu-check gpu-wheels test-lava test-lava-dl test-snn-mlir test-keras test-triton test-rtl \
	test-embedded test-browser test-nengo-loihi test-sanafe test-brian2 test-wheels dist clean

setup: .venv/ready .venv-lava/icsnn-lava.json .venv-readers/icsnn-readers.json

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(RUNTIME),openvino,demo,examples,plots,report,dev]'
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

# The unit tests that take milliseconds each.
quick: .venv/ready
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m '$(QUICK)' tests/unit

# After the crash of a worker xdist would wait for it forever: the run ends instead.
test: lint setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --max-worker-restart 0 --dist loadfile --cov

# Links between pages, commands that pages and workflows name, citation and changelog.
links: .venv/ready
	$(BIN)/python -m pytest tests/unit/test_project_files.py

# The site, in build/site; a warning is an error. Its environment has no torch: nothing is run.
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. .venv-docs/bin/python -m mkdocs build --strict

.venv-docs/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv-docs
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install --quiet --constraint constraints.txt --requirement .venv-docs/requirements.txt
	touch $@

# The lowest version of each dependency that pyproject.toml allows.
test-lowest: build/lowest/ready
	build/lowest/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m '$(QUICK)' tests/unit

build/lowest/ready: pyproject.toml
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/python -m pip install --quiet uv
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python \
	  --resolution lowest-direct --torch-backend $(LOWEST_TORCH) --editable '.[cpu,demo,report,dev]'
	touch $@

# Convolution kernels over tens of thousands of shapes, with each instruction set of this processor.
sweep-kernels: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.kernel_sweep --count 10000

# Random models over all operators that convert, each compared with its graph.
sweep-front-end: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.support.random_models --count $(COUNT)

# Hostile inputs of each format, then ends and races of commands: SEED=, WHICH='arrays models', and
# COUNT inputs of each format.
fuzz: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.fuzz --count $(COUNT) --seed $(SEED) \
	  $(if $(WHICH),--which $(WHICH))
	$(if $(WHICH),,OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.kills --signal KILL --count $(ENDS))
	$(if $(WHICH),,OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.kills --signal INT --count $(ENDS))
	$(if $(WHICH),,OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.races --count $(ENDS))
	$(if $(WHICH),,OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.mutations --count $(COUNT))

# Public architectures, in an environment of 7 GB: an hour or two. Results that build/coverage.jsonl has
# of this version of the package are not measured again.
coverage: .venv-coverage/ready
	OMP_NUM_THREADS=1 .venv-coverage/bin/python benchmarks/network_coverage.py \
	  --out build/coverage.jsonl --jobs $(JOBS) --approximate --page docs/measurements/coverage.md

.venv-coverage/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-coverage
	.venv-coverage/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(RUNTIME),coverage]'
	touch $@

# Parity, speed, memory and calibration on a GPU, as a table in $(OUT)/gpu-check.md; without a GPU the
# same steps on the CPU. Needs torch, NumPy, safetensors, and what gpu-wheels has prepared.
gpu-check:
	$(GPU_PYTHON) benchmarks/gpu_check.py --out $(OUT)/gpu-check.md --seconds $(GPU_SECONDS)

# build/gpu, 200 kB: what gpu-check needs besides on a Linux machine without a network.
gpu-wheels: .venv/ready
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux2014_x86_64 \
	  --python-version 3.12 --dest build/gpu/wheels $(GPU_WHEELS)
	$(BIN)/python benchmarks/gpu_check.py --carry
	du -sh build/gpu

test-gpu: setup
	$(BIN)/python -m pytest -m cuda

# Lava plain on the Python it was made for, and with the shim on a later one.
test-lava: .venv/ready
	$(BIN)/icsnn lava setup --python 3.10 --at build/lava-3.10
	$(BIN)/icsnn lava setup --python 3.11 --at build/lava-3.11
	ICSNN_LAVA=build/lava-3.10 $(BIN)/python -m pytest $(LAVA_TESTS)
	ICSNN_LAVA=build/lava-3.11 $(BIN)/python -m pytest $(LAVA_TESTS)

# The Triton kernel in Triton's interpreter, which needs no GPU: 286 MB to download, 1 GB on disk.
test-triton: build/triton/ready
	PYTHONPATH=build/triton OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(BIN)/python -m pytest -m triton \
	  tests/unit/backends/torch/test_triton_if.py

build/triton/ready: .venv/ready
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/triton triton
	touch $@

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

# ONNX files of Keras models, written by tf2onnx in an environment of 2.6 GB.
test-keras: build/keras/ready
	ICSNN_KERAS=build/keras/bin/python $(BIN)/python -m pytest -m keras

build/keras/ready: .venv/ready
	$(PYTHON) -m venv --clear build/keras
	build/keras/bin/python -m pip install --quiet 'tensorflow>=2.18' 'tf2onnx>=1.16'
	touch $@

# The example layer and whole networks in SystemVerilog, simulated and synthesized. Installs nothing.
test-rtl: .venv/ready
	@for tool in iverilog verilator yosys; do command -v $$tool > /dev/null || { \
	  echo "$$tool is missing; on Debian: apt-get install iverilog verilator yosys" >&2; exit 1; }; done
	$(BIN)/python -m pytest -m rtl

# The digits network as a C program on a Cortex-M4 and a RISC-V board in QEMU. Installs nothing.
test-embedded: .venv/ready
	@for tool in arm-none-eabi-gcc qemu-system-arm riscv64-unknown-elf-gcc qemu-system-riscv32; do \
	  command -v $$tool > /dev/null || { echo "$$tool is missing; on Debian: apt-get install" \
	  gcc-arm-none-eabi picolibc-arm-none-eabi qemu-system-arm gcc-riscv64-unknown-elf \
	  picolibc-riscv64-unknown-elf qemu-system-misc >&2; exit 1; }; done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m embedded -s tests/embedded

# Reports in Debian's Chromium, at two widths, light and dark: 45 MB to download for selenium, which
# drives it. Screenshots are written to build/screenshots.
test-browser: build/browser/ready
	@for tool in chromium:chromium chromedriver:chromium-driver; do \
	  command -v $${tool%%:*} > /dev/null || { \
	  echo "$${tool%%:*} is missing; on Debian: apt-get install $${tool#*:}" >&2; exit 1; }; done
	PYTHONPATH=build/browser OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/browser

build/browser/ready: .venv/ready
	$(BIN)/python -m pip install --quiet --upgrade --target build/browser selenium
	touch $@

# nengo-loihi's emulator of Loihi 1, in an environment of 250 MB.
test-nengo-loihi: .venv/ready
	ICSNN_NENGO_LOIHI=build/nengo-loihi $(BIN)/icsnn tools setup nengo-loihi
	ICSNN_NENGO_LOIHI=build/nengo-loihi $(BIN)/python -m pytest -m nengo_loihi -s tests/tools tests/docs

# SANA-FE, which models latency and energy of chips, in an environment of 110 MB.
test-sanafe: .venv/ready
	ICSNN_SANAFE=build/sanafe $(BIN)/icsnn tools setup sanafe
	ICSNN_SANAFE=build/sanafe $(BIN)/python -m pytest -m sanafe -s tests/tools tests/docs

# Brian2, a simulator for neuroscience, in an environment of 220 MB.
test-brian2: .venv/ready
	ICSNN_BRIAN2=build/brian2 $(BIN)/icsnn tools setup brian2
	ICSNN_BRIAN2=build/brian2 $(BIN)/python -m pytest -m brian2 -s tests/tools

dist: .venv/ready
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# The wheel with each extra, in a bare environment on each Python, one at a time, each removed after
# use. Needs Python 3.10, 3.11 and 3.12, and downloads into build/uv what the extras name: 3 GB, and
# torch from download.pytorch.org, 200 MB for each Python. EXTRAS='cpu report' and PYTHONS=3.11 try
# some; WHEEL_TORCH=pypi takes torch from PyPI, a CUDA build of several GB.
test-wheels: .venv/ready build/uv/ready
	rm -rf build/wheels
	$(BIN)/python -m build --wheel --outdir build/wheels
	UV_CACHE_DIR=build/uv/cache $(BIN)/python -m tests.support.wheel_check build/wheels/*.whl \
	  --uv build/uv/bin/uv --pythons '$(PYTHONS)' --extras '$(EXTRAS)' --torch $(WHEEL_TORCH)

build/uv/ready:
	$(PYTHON) -m venv --clear build/uv
	build/uv/bin/python -m pip install --quiet uv
	touch $@

clean:
	rm -rf .venv .venv-lava .venv-readers .venv-sinabs .venv-coverage .venv-docs build dist *.egg-info
