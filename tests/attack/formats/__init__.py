"""Hostile inputs by format; each is made with its structure in mind, or by damaging its bytes."""

from __future__ import annotations

from tests.attack.formats.arrays import Arrays
from tests.attack.formats.bundles import Bundles
from tests.attack.formats.checkpoints import Checkpoints
from tests.attack.formats.events import EventFiles
from tests.attack.formats.exports import Exports
from tests.attack.formats.format import Format
from tests.attack.formats.models import Models
from tests.attack.formats.nir_files import NirFiles
from tests.attack.formats.onnx_exports import OnnxExports
from tests.attack.formats.onnx_models import OnnxModels
from tests.attack.formats.pictures import Pictures
from tests.attack.formats.programs import Programs
from tests.attack.formats.shards import Shards

FORMATS: dict[str, type[Format]] = {
    "arrays": Arrays,
    "checkpoints": Checkpoints,
    "nir": NirFiles,
    "onnx-exports": OnnxExports,
    "onnx-models": OnnxModels,
    "bundles": Bundles,
    "events": EventFiles,
    "shards": Shards,
    "models": Models,
    "programs": Programs,
    "pictures": Pictures,
    "exports": Exports,
}
