"""Models by name, weights and exported programs: found, fitted, and no code run from data."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.exported_program import load_program
from icsnn_deploy.conversion.frontend.load_model import load_model, load_weights
from icsnn_deploy.errors import ConversionError, DataError

SOURCE = """
import dataclasses
import torch
from torch import nn

@dataclasses.dataclass
class Config:  # looks its own module up
    width: int = 4

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, Config().width, 3, padding=1)
        self.head = nn.Linear(4 * 16, 3)
    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).flatten(1))

def make(): return Net()
def as_class_text(): return "Net"
def nothing(): return None
def raising(): raise FloatingPointError("out of paint")
def needs_more(width): return Net()
not_callable = 3
"""


class Net(nn.Module):
    """The model of SOURCE."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.conv(x)).flatten(1))
        return logits


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a_model_of_mine.py"
    path.write_text(SOURCE)
    before = dict(sys.modules)
    yield path
    for name in set(sys.modules) - set(before):
        if "a_model_of_mine" in name or "paint" in name:
            del sys.modules[name]


def example(count: int = 8) -> torch.Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))


# By name


def test_a_callable_in_a_file(file: Path) -> None:
    model = load_model(f"{file}:make")
    assert isinstance(model, nn.Module)
    assert not model.training
    assert model(example()).shape == (8, 3)


def test_a_class_in_a_file(file: Path) -> None:
    model = load_model(f"{file}:Net")
    assert type(model).__name__ == "Net"


def test_a_callable_in_a_module(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder counts as a place of modules, as for python -m."""
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(file.parent))])
    assert isinstance(load_model("a_model_of_mine:make"), nn.Module)
    assert isinstance(load_model("torch.nn:Flatten"), nn.Flatten)


@pytest.mark.parametrize("name", ["torch", "json", "onnx"])
def test_a_file_does_not_stand_in_for_a_package(tmp_path: Path, name: str) -> None:
    before = sys.modules.get(name)
    (tmp_path / f"{name}.py").write_text("from torch import nn\nmake = nn.Flatten\n")
    assert isinstance(load_model(f"{tmp_path}/{name}.py:make"), nn.Flatten)
    assert sys.modules.get(name) is before
    del sys.modules[f"_icsnn_model_{name}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "has no callable 'absent'"),
        ("not_callable", "has no callable 'not_callable'"),
        ("raising", "calling it raised FloatingPointError: out of paint"),
        ("needs_more", "calling it raised TypeError: .*'width'"),
        ("nothing", "returned NoneType, an nn.Module is needed"),
        ("as_class_text", "returned str, an nn.Module is needed"),
    ],
)
def test_callables_that_give_no_model(file: Path, name: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        load_model(f"{file}:{name}")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("spec", ["", "make", "model.py", ":make", "model.py:", "model.tflite"])
def test_specs_that_name_nothing(spec: str) -> None:
    with pytest.raises(ConversionError, match=r"package\.module:callable"):
        load_model(spec)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise KeyError('paint')", "importing it raised KeyError: 'paint'"),
        ("def make(:", "importing it raised SyntaxError"),
        ("import a_package_without_paint", "No module named 'a_package_without_paint'"),
        ("\0", "importing it raised"),
    ],
)
def test_files_and_modules_that_can_not_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    (tmp_path / "without_paint.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    for spec in (f"{tmp_path}/without_paint.py:make", "without_paint:make"):
        with pytest.raises(ConversionError, match=message):
            load_model(spec)
        sys.modules.pop("without_paint", None)


@pytest.mark.parametrize("spec", ["no.such.module:make", "..x:make", "a..b:make", "a b:make"])
def test_modules_that_are_not_there(spec: str) -> None:
    with pytest.raises(ConversionError, match=r"^module "):
        load_model(spec)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for spec in (f"{tmp_path}/none.py:make", f"{tmp_path}/none.pt2"):
        with pytest.raises(ConversionError, match="no such file"):
            load_model(spec)


def test_our_own_errors_pass_through(tmp_path: Path) -> None:
    source = "from icsnn_deploy.errors import DataError\nraise DataError('no data')"
    (tmp_path / "paint.py").write_text(source)
    with pytest.raises(DataError, match=r"^no data$"):
        load_model(f"{tmp_path}/paint.py:make")


# Weights


def state_of(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return Net().state_dict()


@pytest.mark.parametrize("layout", ["plain", "nested", "parallel", "nested parallel", "legacy"])
def test_weights(file: Path, tmp_path: Path, layout: str) -> None:
    state = state_of(5)
    value: Any = state
    if "parallel" in layout:
        value = {f"module.{key}": tensor for key, tensor in state.items()}
    if "nested" in layout:
        value = {"epoch": 3, "state_dict": value, "best": 0.5}
    path = tmp_path / "w.pt"
    torch.save(value, path, _use_new_zipfile_serialization=layout != "legacy")
    model = load_model(f"{file}:make", path)
    assert isinstance(model, nn.Module)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in state.items())


def test_weights_of_another_model_list_every_entry(file: Path, tmp_path: Path) -> None:
    state = state_of(0)
    state["head.weight"] = torch.zeros(3, 9)
    state["stem.weight"] = state.pop("conv.weight")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(DataError) as caught:
        load_model(f"{file}:make", tmp_path / "w.pt")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/w.pt: does not fit {file}:make, 3 entries:",
        "  missing conv.weight",
        "  not in the model: stem.weight",
        "  head.weight: shape [3, 9], the model has [3, 64]",
    ]


def test_a_long_list_is_cut(file: Path, tmp_path: Path) -> None:
    torch.save({f"other.{n}": torch.zeros(1) for n in range(50)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="54 entries") as caught:
        load_model(f"{file}:make", tmp_path / "w.pt")
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (22, "  ...")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "holds a dict"),
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(1), "holds a Tensor"),
        ({"epoch": 1, "lr": 0.1}, "entry 'epoch' is no tensor"),
        ({"state_dict": {}}, "holds a dict"),
        ({"state_dict": {"a": [1]}}, "entry 'a' is no tensor"),
    ],
)
def test_checkpoints_without_a_state_dict(tmp_path: Path, value: Any, message: str) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(DataError, match=f"{message}.*a state dict is needed"):
        load_weights(tmp_path / "w.pt")


def zipped(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy torch", "inside a state dict"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, form: str) -> None:
    touched, path = tmp_path / "touched", tmp_path / "w.pt"
    trap = Touches(touched)
    if form == "pickle":
        path.write_bytes(pickle.dumps({"conv.weight": trap}, protocol=2))
    else:
        value = {**state_of(0), "extra": trap} if form == "inside a state dict" else trap
        torch.save(value, path, _use_new_zipfile_serialization=form != "legacy torch")
    with pytest.raises(DataError, match="could run code") as caught:
        load_weights(path)
    assert "torch.save(model.state_dict(), path)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not touched.exists()
    if form != "pickle":
        torch.load(path, weights_only=False)  # the trap does work
        assert touched.exists()


def test_weights_are_read_before_the_model_is_made(tmp_path: Path) -> None:
    source = f"open({str(tmp_path / 'made')!r}, 'w')\nraise AssertionError"
    (tmp_path / "m.py").write_text(f"def make():\n    {source.splitlines()[0]}\n")
    (tmp_path / "w.pt").write_bytes(b"damaged")
    with pytest.raises(DataError):
        load_model(f"{tmp_path}/m.py:make", tmp_path / "w.pt")
    assert not (tmp_path / "made").exists()


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    zipped_data = zipped(state_of(0))
    torch.save(state_of(0), path, _use_new_zipfile_serialization=False)
    legacy = path.read_bytes()
    cases = [b"", b"\0" * 50, b"PK\x03\x04" + bytes(50), b"text, no checkpoint"]
    for data in (zipped_data, legacy):
        cases += [data[:length] for length in range(1, len(data), len(data) // 12)]
    for data in cases:
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"w\.pt") as caught:
            load_weights(path)
        assert "\n" not in str(caught.value)


def test_no_checkpoint(file: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(DataError, match="no such file"):
            load_model(f"{file}:make", path)


# Exported programs


def exported(path: Path, model: nn.Module | None = None, **options: Any) -> Path:
    torch.manual_seed(0)
    program = torch.export.export((model or Net()).eval(), (example(2),), **options)
    torch.export.save(program, path)
    return path


@pytest.mark.slow
def test_a_program_converts_end_to_end(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Net().eval()
    path = exported(tmp_path / "net.pt2", model, dynamic_shapes=({0: Dim("batch", min=2)},))
    program = load_model(str(path))
    assert isinstance(program, ExportedProgram)
    result = convert(program, example().numpy(), Recipe(name="opi", time_steps=2))
    expected = model(example()).detach().numpy()
    assert np.allclose(run_ann(result.ann, example().numpy()), expected, atol=1e-5)
    assert result.network.steps == 2


class Residual(nn.Module):
    """Everything the converter takes, with a buffer, a constant and an odd name."""

    gain: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"conv-1": nn.Conv2d(1, 4, 3, padding="same")})
        self._norm = nn.BatchNorm2d(4)
        self.register_buffer("gain", torch.ones(4, 1, 1))
        self.constant = torch.tensor([2.0])
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self._norm(self.layers["conv-1"](x))) * self.gain
        z = torch.nn.functional.avg_pool2d(torch.relu(y + y * self.constant), 2)
        pooled = torch.cat([z.mean((2, 3)), z.amax((2, 3))], dim=1)
        logits: torch.Tensor = self.head(pooled.reshape(x.shape[0], -1))
        return logits


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["static", "named batch", "automatic sizes", "strict", "decomposed"]
)
@pytest.mark.parametrize("make", [Net, Residual])
def test_programs_as_torch_writes_them_are_taken(
    tmp_path: Path, kind: str, make: Callable[[], nn.Module]
) -> None:
    options: dict[str, dict[str, Any]] = {
        "named batch": {"dynamic_shapes": ({0: Dim("batch", min=2, max=64)},)},
        "automatic sizes": {"dynamic_shapes": ({0: Dim.AUTO},)},
        "strict": {"strict": True},
    }
    model = make().eval()
    program = torch.export.export(model, (example(2),), **options.get(kind, {}))
    if kind == "decomposed":
        program = program.run_decompositions()
    torch.export.save(program, tmp_path / "net.pt2", extra_files={"notes.txt": "by hand"})
    read = load_program(tmp_path / "net.pt2").module()
    assert torch.allclose(read(example(2)), model(example(2)), atol=1e-6)


class Spatial(nn.Module):
    """Its guards on sizes are written out as Python."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.avg_pool2d(torch.relu(self.conv(x)), 2)
        return torch.relu(y[:, :, 1:]).mean((2, 3))


@pytest.mark.slow
def test_guards_on_sizes_are_taken(tmp_path: Path) -> None:
    sizes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    path = exported(tmp_path / "net.pt2", Spatial(), dynamic_shapes=sizes)
    records = records_of(path)
    assert json.loads(records["models/model.json"])["guards_code"]
    assert load_program(path).module()(example(3)).shape == (3, 3)


def test_weights_do_not_go_with_a_program(tmp_path: Path) -> None:
    path = exported(tmp_path / "net.pt2")
    with pytest.raises(ConversionError, match="holds its weights; drop --weights"):
        load_model(str(path), tmp_path / "w.pt")


def records_of(path: Path) -> dict[str, bytes]:
    """The records of an archive, without its root folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, records: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(f"net/{name}", data)


Json = dict[str, Any]


def edited(path: Path, record: str, edit: Callable[[Json], object]) -> None:
    """The archive with one of its JSON records changed."""
    records = records_of(path)
    value = json.loads(records[record])
    edit(value)
    rewrite(path, {**records, record: json.dumps(value).encode()})


def nodes(program: Json) -> list[Json]:
    found: list[Json] = program["graph_module"]["graph"]["nodes"]
    return found


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_model(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_an_archive_written_by_hand_is_taken(tmp_path: Path) -> None:
    """So that the refusals below are not about the zip."""
    path = exported(tmp_path / "net.pt2")
    rewrite(path, records_of(path))
    assert isinstance(load_model(str(path)), ExportedProgram)


def pickled_weight(path: Path, trap: Touches) -> None:
    def edit(config: Json) -> None:
        config["config"]["conv.bias"]["use_pickle"] = True

    edited(path, "data/weights/model_weights_config.json", edit)
    config = json.loads(records_of(path)["data/weights/model_weights_config.json"])
    name = config["config"]["conv.bias"]["path_name"]
    rewrite(path, {**records_of(path), f"data/weights/{name}": zipped(trap)})


def pickled_constant(path: Path, trap: Touches) -> None:
    def edit(config: Json) -> None:
        config["config"]["trap"] = {
            "path_name": "opaque_obj_0",
            "is_param": False,
            "use_pickle": True,
            "tensor_meta": None,
        }

    edited(path, "data/constants/model_constants_config.json", edit)
    rewrite(path, {**records_of(path), "data/constants/opaque_obj_0": pickle.dumps(trap)})


def sample_inputs(path: Path, trap: Touches) -> None:
    rewrite(path, {**records_of(path), "data/sample_inputs/model.pt": zipped(((trap,), {}))})


def old_weights(path: Path, trap: Touches) -> None:
    rewrite(path, {**records_of(path), "data/weights/model.pt": zipped({"conv.bias": trap})})


def size_expression(path: Path, trap: Touches) -> None:
    def edit(program: Json) -> None:
        sizes = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        code = f"__import__('os').system('touch {trap.path}') + 2"
        sizes[0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 2}}}

    edited(path, "models/model.json", edit)


def size_expression_under_a_name_of_free_text(path: Path, trap: Touches) -> None:
    size_expression(path, trap)

    def edit(program: Json) -> None:
        graph = program["graph_module"]["graph"]
        graph["tensor_values"]["stack_trace"] = graph["tensor_values"]["x"]

    edited(path, "models/model.json", edit)
    text = records_of(path)["models/model.json"].decode()
    rewrite(
        path,
        {
            **records_of(path),
            "models/model.json": text.replace('"name": "x"', '"name": "stack_trace"').encode(),
        },
    )

    def drop(program: Json) -> None:
        del program["graph_module"]["graph"]["tensor_values"]["x"]

    edited(path, "models/model.json", drop)


def guard(path: Path, trap: Touches) -> None:
    def edit(program: Json) -> None:
        program["guards_code"] = [f"__import__('os').system('touch {trap.path}') == 0"]

    edited(path, "models/model.json", edit)


TRAPS = [
    pickled_weight,
    pickled_constant,
    sample_inputs,
    old_weights,
    size_expression,
    size_expression_under_a_name_of_free_text,
    guard,
]


@pytest.mark.parametrize("spring", TRAPS)
def test_code_in_a_program_is_not_run(
    tmp_path: Path, spring: Callable[[Path, Touches], None]
) -> None:
    path, touched = exported(tmp_path / "net.pt2"), tmp_path / "touched"
    spring(path, Touches(touched))
    message = refused(path)
    assert "not loaded, because loading it could run code: " in message
    assert not touched.exists()


def record(name: str, data: bytes) -> Callable[[Path], None]:
    def add(path: Path) -> None:
        rewrite(path, {**records_of(path), name: data})

    return add


def in_model(change: Callable[[Json], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        edited(path, "models/model.json", change)

    return edit


def target(name: str) -> Callable[[Path], None]:
    return in_model(lambda program: nodes(program)[0].update(target=name))


def spec(tree: Json) -> Callable[[Path], None]:
    def change(program: Json) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = json.dumps([1, tree])

    return in_model(change)


def payload(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        def change(config: Json) -> None:
            config["config"]["conv.bias"].update(changes)

        edited(path, "data/weights/model_weights_config.json", change)

    return edit


LEAF: Json = {"type": None, "context": None, "children_spec": []}
DEFAULT_DICT = {
    "type": "collections.defaultdict",
    "context": json.dumps({"default_factory_module": "antigravity"}),
    "children_spec": [],
}
ENUM = {
    "type": "builtins.dict",
    "context": json.dumps([{"__enum__": True, "fqn": "antigravity:x", "name": "y"}]),
    "children_spec": [LEAF],
}

SUSPICIOUS: dict[str, Callable[[Path], None]] = {
    "a compiled library": record("data/aotinductor/model/model.so", b"\x7fELF"),
    "a custom object": record("data/constants/custom_obj_0", b""),
    "an unknown record": record("data/other", b""),
    "an operator that loads libraries": target("torch.ops.load_library"),
    "an operator of another library": target("torch.ops.mylib.act.default"),
    "an operator that opens files": target("torch.ops.aten.from_file.default"),
    "a method of an operator": target("torch.ops.aten.relu.default.__class__"),
    "a function of torch": target("torch.hub.load"),
    "a module that torch imports": target("torch.os.system"),
    "a function of math": target("math.factorial"),
    "a caller of methods": target("_operator.methodcaller"),
    "a getter of attributes": target("_operator.attrgetter"),
    "a registered extension": target("#ext:op"),
    "a plain name": target("print"),
    "a name that is code": in_model(lambda p: nodes(p)[0].update(name="x=print(1)")),
    "an argument that is code": in_model(
        lambda p: nodes(p)[0]["inputs"][0].update(name="x=1, y=print(1)")
    ),
    "a default value in a placeholder": in_model(
        lambda p: p["graph_module"]["graph"]["inputs"][0]["as_tensor"].update(name="x=print(1)")
    ),
    "a key that is code": in_model(lambda p: p["range_constraints"].update({"f(1)": {}})),
    "a size that calls": in_model(
        lambda p: p["graph_module"]["graph"]["sym_int_values"].update(
            n={"as_expr": {"expr_str": "preview(1)", "hint": None}}
        )
    ),
    "a size without end": in_model(
        lambda p: p["graph_module"]["graph"]["sym_int_values"].update(
            n={"as_expr": {"expr_str": "9**9**9", "hint": None}}
        )
    ),
    "a guard that calls": in_model(lambda p: p.update(guards_code=["print(1)"])),
    "a guard without end": in_model(lambda p: p.update(guards_code=["9**9 > 1"])),
    "a container that imports": spec(DEFAULT_DICT),
    "a key that imports": spec(ENUM),
    "a container inside a container": spec(
        {"type": "builtins.tuple", "context": "null", "children_spec": [DEFAULT_DICT]}
    ),
    "a pickle as a number": payload(use_pickle=1),
    "a payload outside": payload(path_name="../../models/model.json"),
    "a payload at a root": payload(path_name="/etc/passwd"),
}


@pytest.mark.parametrize("what", SUSPICIOUS)
def test_what_no_program_of_tensors_needs_is_refused(tmp_path: Path, what: str) -> None:
    path = exported(tmp_path / "net.pt2")
    SUSPICIOUS[what](path)
    assert "not loaded, because loading it could run code: " in refused(path)


@pytest.mark.parametrize("text", ["1" * 5000 + "!", "(" * 5000 + "!", "< " * 5000 + "!"])
def test_long_expressions_are_refused_at_once(tmp_path: Path, text: str) -> None:
    """A pattern that backtracks would take forever."""
    path = exported(tmp_path / "net.pt2")
    in_model(lambda p: p.update(guards_code=[text]))(path)
    assert "the guard" in refused(path)
    in_model(
        lambda p: (
            p.update(guards_code=[])
            or p["graph_module"]["graph"]["sym_int_values"].update(
                n={"as_expr": {"expr_str": text, "hint": None}}
            )
        )
    )(path)
    assert "the size" in refused(path)


def test_a_program_of_the_old_format(tmp_path: Path) -> None:
    """torch would fall back to reading it with pickle."""
    path, touched = tmp_path / "net.pt2", tmp_path / "touched"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", zipped({"x": Touches(touched)}))
        archive.writestr("serialized_constants.pt", b"")
        archive.writestr("serialized_example_inputs.pt", b"")
    assert "not a readable exported program" in refused(path)
    assert not touched.exists()


def test_damaged_programs(tmp_path: Path) -> None:
    path = exported(tmp_path / "net.pt2")
    data = path.read_bytes()
    for length in [0, 1, 4, 100, len(data) // 2, len(data) - 30, len(data) - 1]:
        path.write_bytes(data[:length])
        assert "not a readable exported program" in refused(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    assert "not a readable exported program" in refused(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("models/model.json", b"{"),
        ("models/model.json", b"[]"),
        ("models/model.json", b"[" * 100_000),
        ("models/model.json", b"\xff"),
        ("data/weights/model_weights_config.json", b"{}"),
        ("data/weights/model_weights_config.json", b'{"config": {"conv.bias": {}}}'),
        ("data/sample_inputs/model.pt", b"damaged"),
        ("archive_version", b"99"),
        ("archive_format", b"pt3"),
    ],
)
def test_damaged_records(tmp_path: Path, name: str, data: bytes) -> None:
    path = exported(tmp_path / "net.pt2")
    rewrite(path, {**records_of(path), name: data})
    refused(path)


def test_two_programs_in_one_archive(tmp_path: Path) -> None:
    path = exported(tmp_path / "net.pt2")
    records = records_of(path)
    twin = {
        name.replace("model.", "twin.").replace("/model_", "/twin_"): data
        for name, data in records.items()
        if "model" in name
    }
    rewrite(path, {**records, **twin})
    assert "holds 2 exported programs" in refused(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def eval(self): raise SystemExit", r"the model that it returned ended the program"),
        ("__class__ = property(lambda self: nn.ReLU)", "whose __class__ is another"),
        ("__class__ = property(lambda self: 1 / 0)", "raised ZeroDivisionError"),
        ("def state_dict(self): raise KeyError(3)", "raised KeyError: 3"),
    ],
)
def test_a_class_that_does_what_no_model_should(tmp_path: Path, body: str, message: str) -> None:
    text = f"from torch import nn\nclass model(nn.Linear):\n    {body}\n"
    text += "    def __init__(self): super().__init__(2, 2)\n"
    (tmp_path / "m.py").write_text(text)
    weights = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2).state_dict(), weights)
    with pytest.raises(ConversionError, match=message):
        load_model(f"{tmp_path}/m.py:model", weights)


@pytest.mark.parametrize("kind", ["sparse", "nested", "quantized", "meta", "complex", "declares"])
def test_tensors_that_no_weight_can_be(tmp_path: Path, kind: str) -> None:
    tensor = torch.ones(2, 2)
    odd = {
        "sparse": tensor.to_sparse(),
        "nested": torch.nested.nested_tensor([tensor, tensor[:1]]),
        "quantized": torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "meta": tensor.to("meta"),
        "complex": tensor.to(torch.complex64),
        "declares": torch.ones(1, 1).expand(2**20, 2**20),
    }[kind]
    torch.save({"weight": odd, "bias": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=f"weight.* {kind}|weight.*{kind}"):
        load_weights(tmp_path / "w.pt")
