"""Imports go one way, heavy packages are loaded on use, and every folder is in the distribution."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "icsnn_deploy"

ORDER = (
    {
        *("errors", "leftovers", "locks", "machine_cache", "notebook", "outside_json"),
        *("progress", "version"),
    },
    {"atomic", "progress_display"},
    {"native"},
    {"environments", "user_code"},
    {"graph"},
    {"pixels"},
    {"data"},
    {"sources"},
    {"events"},
    {"passes"},
    {"bundle", "targets"},
    {"exporters"},
    {"backends"},
    {"lava", "readers", "distributed"},
    {"tools"},
    {"judging"},
    {"parity"},
    {"conversion"},
    {"lattice", "evaluation", "splitting"},
    {"deploying"},
    {"report"},
    {"sweeping"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
"""A folder (or file at the package's root) imports only what stands before it; no exceptions."""

APART = (("conversion/frontend", "conversion/calibration"),)
"""Two houses that never import each other, within one folder."""

AT_MODULE_LEVEL = {
    "numpy": r".*",
    "lazy_loader": r"__init__\.py",
    "typing_extensions": r".*",
    "icsnn_lava": r"lava/worker/.*",  # has an environment of its own
    "icsnn_tools": r"tools/worker/.*",  # each module, that of its tool
    "lava": r"lava/worker/.*",
    "scipy": r"lava/worker/.*",
    "h5py": r"lava/worker/.*",
    "torch": r"(conversion|demo|readers|backends/torch)/.*"
    r"|sweeping/(inputs|run)\.py"
    r"|lattice/(input_moments|integer_surrogate|rounding|trainable|trained_parameters)\.py",
    "triton": r"backends/torch/triton_if\.py",
    "rich": r"(report|cli|sweeping)/.*",
    "typer": r"cli/.*",
}
"""What may be imported as a module is loaded, and where; everything else only on use."""

ON_USE = {
    "rich": r"progress_display\.py",
    "torch": r"conversion/.*|sources/fresh_batches\.py|distributed\.py|graph/readout\.py"
    r"|exporters/speck/program\.py",
    "onnx": r"(exporters|backends)/onnx/.*|conversion/frontend/onnx_model/.*",
    "google": r"exporters/onnx/.*|conversion/frontend/onnx_model/read\.py",
    "onnxruntime": r"backends/onnx/onnxruntime\w*\.py",
    "openvino": r"backends/onnx/openvino\.py",
    "nir": r"exporters/nir/.*|readers/.*",
    "snntorch": r"readers/snntorch\.py",
    "spikingjelly": r"readers/spikingjelly\.py",
    "norse": r"readers/norse\.py",
    "sinabs": r"readers/sinabs\.py|exporters/speck/program\.py",
    "nirtorch": r"readers/(nirtorch|norse)\.py",
    "nengo_loihi": r"tools/worker/icsnn_tools/nengo_loihi_emulator\.py",
    "sanafe": r"tools/worker/icsnn_tools/sanafe_chip\.py",
    "brian2": r"tools/worker/icsnn_tools/brian2_network\.py",
    "h5py": r"exporters/nir/read/hdf5\w*\.py|exporters/netx/.*",
    "matplotlib": r"(report|sweeping)/.*",
    "jinja2": r"report/page/render\.py",
    "sklearn": r"demo/.*",
    "PIL": r"sources/images\.py",
    "torchvision": r"sources/torchvision_sets\.py",
    "safetensors": r"(data|bundle/(bundle|create)|graph/file|parity/golden)\.py",
}


@dataclass(frozen=True)
class Import:
    """One imported module."""

    file: str  # below the package
    line: int
    module: str
    on_use: bool  # inside a function
    for_types: bool  # under TYPE_CHECKING

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def modules() -> list[Path]:
    """Every file of the package, those behind the two links included."""
    folders = [PACKAGE, PACKAGE / "exporters", PACKAGE / "targets"]
    found = {path for folder in folders for path in folder.rglob("*.py")}
    return sorted(found)


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("icsnn_deploy", *parts)).removesuffix(".__init__")


MODULES = frozenset(module_of(path) for path in modules())


def imports_of(path: Path) -> Iterator[Import]:
    file = str(path.relative_to(PACKAGE))

    def walk(node: ast.AST, on_use: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}:{child.lineno}: a relative import"
                # `from package import module` imports the module
                inner = [f"{child.module}.{alias.name}" for alias in child.names]
                names = [name if name in MODULES else child.module or "" for name in inner]
            for name in names:
                yield Import(file, getattr(child, "lineno", 0), name, on_use, for_types)
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from walk(child, on_use or function, for_types or typing)

    yield from walk(ast.parse(path.read_text()), False, False)


IMPORTS = [found for path in modules() for found in imports_of(path) if not found.for_types]


def room_of(dotted: str) -> str:
    """The room of `icsnn_deploy.room.module`."""
    return dotted.split(".")[1]


def home_of(found: Import) -> str:
    return found.file.partition("/")[0].removesuffix(".py")


def rank(room: str) -> int:
    places = [number for number, rooms in enumerate(ORDER) if room in rooms]
    assert places, f"{room}: a new room; give it its place in ORDER"
    return places[0]


def test_the_trees_were_read() -> None:
    """So that the rules below do not hold for lack of imports."""
    files = {found.file for found in IMPORTS}
    assert {
        "exporters/onnx/write.py",
        "targets/profile.py",
        "exporters/nir/read/file.py",
        "cli/__init__.py",
    } <= files
    assert any(str(i).endswith("imports icsnn_deploy.exporters.onnx.write") for i in IMPORTS)
    assert any(found.top == "onnxruntime" and found.on_use for found in IMPORTS)


def test_every_room_has_its_place() -> None:
    rooms = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    rooms |= {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set().union(*ORDER)
    assert sum(len(rooms) for rooms in ORDER) == len(set().union(*ORDER))


def test_imports_go_one_way() -> None:
    wrong = []
    for found in IMPORTS:
        home = home_of(found)
        if found.top != "icsnn_deploy" or home == "__init__":
            continue
        room = room_of(found.module)
        if not (room == home or rank(room) < rank(home)):
            wrong.append(str(found))
    assert wrong == []


@pytest.mark.parametrize(("one", "other"), [*APART, *(pair[::-1] for pair in APART)])
def test_houses_that_are_apart_do_not_import_each_other(one: str, other: str) -> None:
    dotted = "icsnn_deploy." + other.replace("/", ".")
    files = [found for found in IMPORTS if found.file.startswith(one + "/")]
    assert files
    assert [str(found) for found in files if found.module.startswith(dotted)] == []


@pytest.mark.parametrize(("one", "other"), [*APART, *(pair[::-1] for pair in APART)])
def test_houses_that_are_apart_do_not_reach_each_other(one: str, other: str) -> None:
    """Not through other files either."""
    needs: dict[str, set[str]] = {}
    for found in IMPORTS:
        needs.setdefault(module_of(PACKAGE / found.file), set()).add(found.module)
    house, forbidden = ("icsnn_deploy." + name.replace("/", ".") for name in (one, other))
    reached: set[str] = set()
    waiting = [name for name in MODULES if name.startswith(house)]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += needs.get(name, ())
    assert house in reached
    assert sorted(name for name in reached if name.startswith(forbidden)) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    """Over the files of the whole package, imports inside functions included."""
    known = {module_of(path): path for path in modules()}
    needs: dict[str, set[str]] = {name: set() for name in known}
    for found in IMPORTS:
        home = module_of(PACKAGE / found.file)
        if found.module in known and found.module != home:
            needs[home].add(found.module)
    try:
        list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("home", "never"),
    [
        ("graph", ("passes", "bundle", "conversion", "backends", "exporters")),
        ("passes", ("bundle", "conversion", "backends", "exporters", "targets")),
        ("bundle", ("exporters", "backends", "conversion", "parity", "report", "cli")),
        ("targets", ("exporters", "backends", "conversion", "parity", "report", "cli")),
        ("exporters", ("conversion", "lattice", "backends", "parity", "report", "cli")),
        ("backends", ("conversion", "lattice", "parity", "report", "cli", "lava", "readers")),
        ("parity", ("conversion", "lattice", "report", "cli")),
        ("conversion", ("lattice", "parity", "report", "cli", "exporters")),
    ],
)
def test_the_order_says_what_the_architecture_says(home: str, never: tuple[str, ...]) -> None:
    """A change of ORDER must not quietly allow these."""
    room_imports = {
        room_of(i.module) for i in IMPORTS if i.top == "icsnn_deploy" and home_of(i) == home
    }
    assert room_imports & set(never) == set()


def test_packages_of_others_are_imported_where_they_belong() -> None:
    wrong = []
    for found in IMPORTS:
        if found.top == "icsnn_deploy" or found.top in sys.stdlib_module_names:
            continue
        allowed = [AT_MODULE_LEVEL.get(found.top)]
        if found.on_use:
            allowed.append(ON_USE.get(found.top))
        if not any(pattern and re.fullmatch(pattern, found.file) for pattern in allowed):
            wrong.append(str(found))
    assert wrong == []


HEAVY = (
    "torch",
    "torchvision",
    "PIL",
    "onnx",
    "onnxruntime",
    "openvino",
    "nir",
    "h5py",
    "sklearn",
    "matplotlib",
    "rich",
)


def loaded_by(*statements: str) -> set[str]:
    """Which of the heavy packages are loaded in a fresh process after the statements."""
    code = "; ".join(
        ["import sys", *statements, "print(*{n.partition('.')[0] for n in sys.modules})"]
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(found.stdout.split()) & set(HEAVY)


def test_importing_the_package_is_light() -> None:
    assert loaded_by("import icsnn_deploy", "dir(icsnn_deploy)") == set()


def test_what_needs_no_backend_loads_none() -> None:
    without_torch = ("bundle", "graph", "passes", "judging", "parity", "exporters", "targets")
    names = [
        name for name in MODULES if name.split(".")[1:] and name.split(".")[1] in without_torch
    ]
    names += [f"icsnn_deploy.backends.{name}" for name in ("nir", "onnx.onnxruntime", "reference")]
    assert loaded_by(*(f"import {name}" for name in sorted(names))) == set()


def test_the_command_loads_no_backend_until_it_runs_one() -> None:
    assert loaded_by("import icsnn_deploy.cli") == {"rich"}


def test_loading_a_heavy_package_is_seen() -> None:
    """So that the tests above can fail."""
    assert "h5py" in loaded_by("import h5py")


def test_the_distribution_holds_every_folder() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    match = re.search(r"^packages = (\[.*?\])", text, re.DOTALL | re.MULTILINE)
    assert match is not None
    listed = ast.literal_eval(match[1])
    folders = {path.parent for path in modules()}
    present = {".".join(("icsnn_deploy", *path.relative_to(PACKAGE).parts)) for path in folders}
    assert listed == sorted(present)
    for folder in folders:
        assert (folder / "__init__.py").is_file(), folder


def test_exporters_and_targets_are_the_folders_beside() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for name in ("exporters", "targets"):
        assert f'"icsnn_deploy.{name}" = "{name}"' in text
        assert (PACKAGE / name).is_symlink()
        assert (PACKAGE / name).resolve() == ROOT / name


@pytest.mark.slow
def test_public_names_are_never_shadowed_by_modules() -> None:
    """A submodule becomes an attribute of its package once imported: no public name may be one."""
    code = (
        "import icsnn_deploy, types, importlib, pkgutil\n"
        "for name in icsnn_deploy.__all__: getattr(icsnn_deploy, name)\n"
        "for found in pkgutil.walk_packages(icsnn_deploy.__path__, 'icsnn_deploy.'):\n"
        "    try: importlib.import_module(found.name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        if error.name != 'triton': raise  # only some builds of torch bring it\n"
        "wrong = [name for name in icsnn_deploy.__all__\n"
        "         if isinstance(getattr(icsnn_deploy, name), types.ModuleType)]\n"
        "assert not wrong, wrong\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
