"""Exported programs: taken as torch writes them, and no code run from their data."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
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
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.errors import ConversionError, DataError
from tests.support.small_model import Net, Touches, example, zipped


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
