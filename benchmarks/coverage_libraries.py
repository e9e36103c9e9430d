"""Architectures of torchvision, timm, pytorchcv, segmentation-models-pytorch and ultralytics.

The names and sizes are in coverage_lists; here is how each library builds a model without weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import coverage_lists
from coverage_zoo import Architecture, Shape
from torch import nn

_MODULES = {
    "torchvision": ("torchvision.models",),
    "timm": ("timm",),
    "pytorchcv": ("pytorchcv.model_provider",),
    "smp": ("segmentation_models_pytorch",),
    "ultralytics": ("ultralytics.nn.tasks",),
}
_CLASSES = 10


def import_libraries(libraries: Iterable[str]) -> None:
    """Import what the architectures of these libraries need, once for all child processes."""
    for library in libraries:
        for module in _MODULES.get(library, ()):
            importlib.import_module(module)


def architectures() -> list[Architecture]:
    """The entries of all libraries; none is imported."""
    builders: dict[str, Callable[..., nn.Module]] = {
        "torchvision": build_torchvision,
        "timm": build_timm,
        "pytorchcv": build_pytorchcv,
        "smp": build_smp,
        "ultralytics": build_ultralytics,
    }
    return [
        Architecture(
            name=f"{library}/{entry.name}",
            build=partial(builders[library], entry.name, entry.shape, **entry.options),
            inputs=(entry.shape,),
        )
        for library, entries in coverage_lists.entries().items()
        for entry in entries
    ]


def build_torchvision(name: str, shape: Shape, **options: Any) -> nn.Module:
    """A model of torchvision.models, or the pyramid of a detector on a backbone: "fpn-resnet18"."""
    import torchvision

    if name.startswith("fpn-"):
        detection = torchvision.models.detection.backbone_utils
        backbone = name.removeprefix("fpn-")
        make = detection.mobilenet_backbone if "mobile" in name else detection.resnet_fpn_backbone
        options = {"fpn": True} if "mobile" in name else {}
        pyramid: nn.Module = make(backbone_name=backbone, weights=None, **options)
        return pyramid
    # Both initialize weights for seconds, which others do not.
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if "fcn" in name or "deeplab" in name or "lraspp" in name:
        options = {"weights_backbone": None, **options}
    options = {**quick, **options, "weights": None, "num_classes": _CLASSES}
    model: nn.Module = torchvision.models.get_model(name, **options)
    return model


def build_timm(name: str, shape: Shape, **options: Any) -> nn.Module:
    """A model of timm; options such as img_size."""
    import timm

    model: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=_CLASSES, in_chans=shape[0], **options
    )
    return model


def build_pytorchcv(name: str, shape: Shape, **options: Any) -> nn.Module:
    """A model of pytorchcv; its last pooling is made global where the images are smaller."""
    from pytorchcv.model_provider import get_model

    size = {"in_size": shape[1:]} if len(shape) == 3 else {}
    try:
        model: nn.Module = get_model(name, pretrained=False, **size, **options)
    except TypeError:  # a model of any size takes none
        model = get_model(name, pretrained=False, **options)
    for module in list(model.modules()):
        if isinstance(getattr(module, "final_pool", None), nn.AvgPool2d):
            module.final_pool = nn.AdaptiveAvgPool2d(1)
    return model


def build_smp(name: str, shape: Shape, **options: Any) -> nn.Module:
    """A decoder on an encoder: "Unet-resnet18"."""
    import segmentation_models_pytorch as smp

    decoder, _, encoder = name.partition("-")
    model: nn.Module = getattr(smp, decoder)(
        encoder_name=encoder, encoder_weights=None, classes=3, **options
    )
    return model


def build_ultralytics(name: str, shape: Shape, **options: Any) -> nn.Module:
    """A model of a configuration of ultralytics; "+relu" or "+leaky" replaces SiLU."""
    from ultralytics.nn import tasks

    config, _, act = name.partition("+")
    parsed = tasks.yaml_model_load(f"{config}.yaml")
    if act:
        parsed["activation"] = {"relu": "torch.nn.ReLU()", "leaky": "torch.nn.LeakyReLU(0.1)"}[act]
    kind = tasks.ClassificationModel if config.endswith("-cls") else tasks.DetectionModel
    model: nn.Module = kind(parsed, verbose=False, **options)
    return model
