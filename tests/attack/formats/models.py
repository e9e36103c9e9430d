"""Models as Python code that does what no model should."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from tests.attack.formats.format import Format
from tests.attack.formats.networks import images

_RAISES = (
    *("raise SystemExit", "raise SystemExit(0)", "raise SystemExit('gone\\nverdict: pass')"),
    *("import sys; sys.exit(3)", "raise BaseException('base')", "raise GeneratorExit"),
    *(
        "raise Unprintable()",
        "raise ValueError('\\x1b[31mred\\nverdict: pass')",
        "raise StopIteration",
    ),
    *("raise ValueError('x' * 10**6)", "raise KeyError('\\udc80')", "1 / 0", "raise MemoryError"),
    *(
        "raise Lies()",
        "def f(): f()\n{i}f()",
        "raise RuntimeError",
        "assert False",
        "raise asyncio.CancelledError",
    ),
    *(
        "raise ExceptionGroup('many', [ValueError(1)])",
        "print('verdict: pass')",
        "warnings.warn('look\\n\\x1b[31m')",
    ),
    *(
        "import logging; logging.getLogger().warning('root\\x1b[31m')",
        "return None",
        "return 3",
        "pass",
    ),
    *(
        "np.float32(1e38) * np.float32(1e38)",
        "torch.tensor([1.0]).numpy().astype('i1')",
        "os.chdir('/')",
    ),
    *(
        "raise FileNotFoundError('x')",
        "open('/nonexistent/file')",
        "raise UnicodeDecodeError('a', b'', 0, 1, 'x')",
    ),
    *("raise EOFError", "raise BrokenPipeError", "raise OSError(28, 'No space left')"),
)
_HEAD = """
import asyncio, os, sys, warnings
import numpy as np
import torch
from torch import nn
class Unprintable(Exception):
    def __str__(self): raise ValueError('no text')
    __repr__ = __str__
class Lies(Exception):
    @property
    def __class__(self): raise RuntimeError('no class')
    @property
    def args(self): raise RuntimeError('no args')
"""
_BODY = """
class {name}(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.fc = nn.Linear(48, 4)
        {init}
    def forward(self, x):
        {forward}
        return {result}
    {more}
def model():
    {make}
    return {returned}
"""
_RESULTS = (
    *("self.fc(self.conv(x).relu().flatten(1))",) * 3,
    *(
        "x.sin()",
        "None",
        "3",
        "'text'",
        "[x, 'a']",
        "{{'\\x1b[31m': self.fc(self.conv(x).relu().flatten(1))}}",
    ),
    *(
        "x.numpy()",
        "x if x.sum() > 0 else -x",
        "self.conv(x).item()",
        "self(x)",
        "x.to('meta')",
        "x + x",
    ),
    *(
        "torch.empty(2**62)",
        "x.foo()",
        "self.gone(x)",
        "self.fc(x)",
        "x[99]",
        "torch.ops.nothing.at_all(x)",
    ),
)
_INITS = (
    *("pass",) * 4,
    *("self.eval = None", "self.training = 3", "self.add_module('a\\nb', nn.Linear(1, 1))"),
    *("self.add_module('\\x1b[31m', nn.SiLU())", "self.add_module('\\udc80', nn.GELU())"),
    *("self.conv.weight.data.fill_(float('nan'))", "self.conv = nn.Conv2d(2, 3, 3, device='meta')"),
    *(
        "self.conv = torch.jit.script(self.conv)",
        "self.me = self",
        "self.state = open('/dev/null')",
    ),
    *(
        "self.gen = (i for i in range(3))",
        "self.conv.weight.data = torch.empty(0)",
        "del self.conv.bias",
    ),
    *(
        "self.register_forward_hook(lambda *a: 1 / 0)",
        "self.conv.register_forward_pre_hook(lambda *a: 1 / 0)",
    ),
    *(
        "self.conv.register_forward_hook(lambda *a: sys.exit(0))",
        "self.__dict__['_modules'] = None",
    ),
    *(
        "self.half()",
        "self.to(torch.complex64)",
        "self.lazy = nn.LazyLinear(3)",
        "self.conv.weight = None",
    ),
    *("self.conv.stride = 'x'", "self.fc.weight.data *= 1e38", "self.train()", "self.double()"),
)
_MORE = (
    *("",) * 6,
    "def eval(self): {raises}",
    "def train(self, mode=True): {raises}",
    "@property\n    def weight(self): {raises}",
    "def __getattr__(self, name): {raises}",
    "def state_dict(self, *a, **k): {raises}",
    "def modules(self): {raises}",
    "def named_modules(self, *a, **k): return iter([(1, 2)])",
    "def parameters(self, *a, **k): {raises}",
    "def __deepcopy__(self, memo): {raises}",
    "def __repr__(self): {raises}",
    "@property\n    def __class__(self): {raises}",
    "@property\n    def __class__(self): return nn.ReLU",
    "def __bool__(self): {raises}",
    "def __len__(self): {raises}",
    "def __eq__(self, other): {raises}",
    "def __hash__(self): {raises}",
    "def __del__(self): {raises}",
    "def __call__(self, *a): {raises}",
    "def _apply(self, fn): {raises}",
)
_RETURNED = (
    *("{name}()", "{name}().eval()") * 3,
    *("None", "{name}", "3", "nn.Module()", "torch.jit.script(nn.ReLU())", "type('X', (), {{}})()"),
    *(
        "torch.jit.trace(nn.ReLU(), torch.zeros(2))",
        "nn.DataParallel({name}())",
        "torch.compile({name}())",
    ),
    *("torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()))", "nn.Sequential()"),
    *(
        "nn.ModuleList([{name}()])",
        "Lies()",
        "Unprintable()",
        "nn.ReLU()",
        "nn.utils.skip_init(nn.Linear, 2, 2)",
    ),
)
_NAMES = ("Net", "Net", "Net", "训练", "X" * 3000)


class Models(Format):
    runs_code = True

    def prepare(self) -> None:
        np.save(self.good / "x.npy", images(8))

    def make(self, rng: random.Random, work: Path) -> list[str]:
        text = _text(rng)
        stem = rng.choice(
            ("m", "m", "m", "torch", "a b", "x\ny", "\x1b[31m", "a\udc80", "-x", "数")
        )
        path = work / f"{stem}.py"
        data = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.05:
            data = rng.choice(
                (
                    b"\x00",
                    b"\xff\xfe",
                    b"def (",
                    b"",
                    data.replace(b"n", b"\x00", 1),
                    b"model = 3\n",
                )
            )
        path.write_bytes(data)
        use = rng.random()
        name = rng.choice(("model",) * 9 + ("nothing", "np", "", "a\nb"))
        if use < 0.9:
            return [
                *("convert", f"{path}:{name}", "--calibration", str(self.good / "x.npy")),
                *("--out", str(work / "o"), "--recipe", "ic-snn", "--time-steps", "2"),
            ]
        return [
            *("convert", f"{path}:{name}", "--calibration", f"{path}:{name}"),
            *("--out", str(work / "o"), "--time-steps", "2"),
        ]


def _text(rng: random.Random) -> str:
    name, more = rng.choice(_NAMES), rng.choice(_MORE)

    def raises(indent: str) -> str:
        return rng.choice(_RAISES).replace("{i}", indent)

    where = rng.choice(("import", "init", "forward", "make", "more", "none", "none", "none"))
    body = _BODY.format(
        name=name,
        init=raises("        ") if where == "init" else rng.choice(_INITS),
        forward=raises("        ") if where == "forward" else "pass",
        result=rng.choice(_RESULTS),
        more=more.replace("{raises}", _in_destructor(raises("        "), more).replace("\n", "; ")),
        make=raises("    ") if where == "make" else "pass",
        returned=rng.choice(_RETURNED).format(name=name),
    )
    first = raises("") + "\n" if where == "import" else ""
    return _HEAD + first + body


def _in_destructor(code: str, more: str) -> str:
    """What a method does; a destructor, which runs at any time, prints nothing on a result."""
    prints = code.startswith(("print", "warnings", "import logging"))
    return "pass" if "__del__" in more and prints else code
