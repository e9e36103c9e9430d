"""Imports go one way, heavy packages are loaded on use, and every folder is in the distribution."""

from __future__ import annotations

import ast
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
    {"atomic", "errors", "version", "neuron", "progress"},
    {"node", "data", "environments"},
    {"nodes", "topology"},
    {"graph", "pooling"},
    {"interval"},
    {"graph_file", "encoding", "divergence", "certificate"},
    {"manifest"},
    {"bundle"},
    {"exporters"},
    {"lava", "simulate", "interop"},
    {"ranks"},
    {"conversion", "golden"},
    {"lattice", "targets"},
    {"parity", "metrics"},
    {"verification"},
    {"evaluation"},
    {"report"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
"""A room imports rooms before it. In one set, only those of MAY_MEET import each other."""

MAY_MEET = ({"lattice", "targets"}, {"lava", "simulate"}, {"interop", "simulate"})

AT_MODULE_LEVEL = {
    "numpy": r".*",
    "icsnn_lava": r"lava/worker/.*",  # has an environment of its own
    "lava": r"lava/worker/.*",
    "scipy": r"lava/worker/.*",
    "h5py": r"lava/worker/.*",
    "torch": r"(conversion|demo|interop)/.*|simulate/(torch\w*|early_exit)\.py"
    r"|lattice/(moments|rounding)\.py",
    "rich": r"(report|cli)/.*",
    "typer": r"cli/.*",
}
"""What may be imported as a module is loaded, and where; everything else only on use."""

ON_USE = {
    "torch": r"simulate/__init__\.py|conversion/.*|ranks\.py",
    "onnx": r"exporters/onnx\w*\.py|simulate/onnx\w*\.py",
    "google": r"exporters/onnx\w*\.py",
    "onnxruntime": r"simulate/onnxruntime\w*\.py",
    "openvino": r"simulate/openvino\.py",
    "nir": r"exporters/nir\w*\.py|simulate/nir\w*\.py|interop/.*",
    "snntorch": r"interop/snntorch\.py",
    "spikingjelly": r"interop/spikingjelly\.py",
    "norse": r"interop/norse\.py",
    "sinabs": r"interop/sinabs\.py",
    "nirtorch": r"interop/(nirtorch|norse)\.py",
    "h5py": r"simulate/hdf5\w*\.py|exporters/netx\w*\.py",
    "matplotlib": r"report/.*",
    "sklearn": r"demo/.*",
    "safetensors": r"(bundle|graph_file|golden)\.py",
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


def imports_of(path: Path) -> Iterator[Import]:
    file = str(path.relative_to(PACKAGE))

    def walk(node: ast.AST, on_use: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}:{child.lineno}: a relative import"
                # `from icsnn_deploy import x` imports the room x
                bare = child.module in ("icsnn_deploy", "icsnn_deploy.exporters")
                inner = [f"{child.module}.{alias.name}" for alias in child.names]
                names = inner if bare else [child.module or ""]
            for name in names:
                yield Import(file, child.lineno, name, on_use, for_types)
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
        "simulate/nir.py",
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
        meet = room == home or any({room, home} <= rooms for rooms in MAY_MEET)
        if not (meet or rank(room) < rank(home)):
            wrong.append(str(found))
    assert wrong == []


@pytest.mark.parametrize(
    ("home", "never"),
    [
        (
            "exporters",
            ("conversion", "lattice", "simulate", "parity", "verification", "report", "cli"),
        ),
        ("simulate", ("conversion", "lattice", "parity", "verification", "report", "cli")),
        (
            "bundle",
            ("exporters", "simulate", "conversion", "parity", "verification", "report", "cli"),
        ),
        ("graph", ("bundle", "conversion", "simulate", "exporters")),
        ("conversion", ("lattice", "parity", "verification", "report", "cli", "exporters")),
        ("parity", ("verification", "report", "cli", "conversion")),
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


HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "nir", "h5py", "sklearn", "matplotlib", "rich")


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
    names = ["verification", "parity", "bundle", "golden", "metrics", "simulate.nir"]
    names += ["simulate.onnxruntime", "simulate.reference", "certificate"]
    names += [f"exporters.{path.stem}" for path in (PACKAGE / "exporters").glob("*.py")]
    names += [f"targets.{path.stem}" for path in (PACKAGE / "targets").glob("*.py")]
    wanted = [name.removesuffix(".__init__") for name in names]
    assert loaded_by(*(f"import icsnn_deploy.{name}" for name in wanted)) == set()


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


def test_public_names_are_never_shadowed_by_modules() -> None:
    """A submodule becomes an attribute of its package once imported: no public name may be one."""
    code = (
        "import icsnn_deploy, types, importlib, pkgutil\n"
        "for name in icsnn_deploy.__all__: getattr(icsnn_deploy, name)\n"
        "for found in pkgutil.walk_packages(icsnn_deploy.__path__, 'icsnn_deploy.'):\n"
        "    importlib.import_module(found.name)\n"
        "wrong = [name for name in icsnn_deploy.__all__\n"
        "         if isinstance(getattr(icsnn_deploy, name), types.ModuleType)]\n"
        "assert not wrong, wrong\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
