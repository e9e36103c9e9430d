"""CIFAR-10 through torchvision: convert a trained network, measure it, write its files.

    python examples/cifar10_workflow.py resnet20 weights.pt build/cifar10-resnet20
    python examples/cifar10_workflow.py vgg16    weights.pt build/cifar10-vgg16

The weights are a state dict of a network in cifar_models.py, trained on normalized images.
Needs: pip install 'icsnn-deploy[examples]'. The images (170 MB) are downloaded once, to ./data.
"""

import sys
from pathlib import Path

import cifar_models
import numpy as np
from torchvision.datasets import CIFAR10

import icsnn_deploy as icsnn

NORMALIZATION = icsnn.Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def main(name: str, weights: str, out: str) -> None:
    from icsnn_deploy.conversion.frontend.load_model import load_weights

    model = {"resnet20": cifar_models.resnet20, "vgg16": cifar_models.vgg16}[name]()
    model.load_state_dict(load_weights(Path(weights)))
    calibration, _ = pixels("data", train=True, count=1024)
    images, labels = pixels("data", train=False, count=1000)

    recipe = icsnn.Recipe(name="fast", time_steps=8)
    conversion = icsnn.convert(model.eval(), calibration, recipe, normalization=NORMALIZATION)
    bundle = icsnn.export_into(conversion.save(out, calibration[:8]), "nir", "onnx")
    report = icsnn.verify(bundle, ["torch", "onnxruntime", "nir"], images[:20])
    print(report.summary())

    from icsnn_deploy.backends.torch.ann import TorchANN
    from icsnn_deploy.backends.torch.simulator import TorchSimulator

    for kind, logits in (
        ("ANN", TorchANN(conversion.ann).run(images)),
        ("SNN", TorchSimulator(conversion.network).classify(images)),
    ):
        print(f"{kind} accuracy on {len(images)} images: {np.mean(logits.argmax(1) == labels):.1%}")


def pixels(root: str, *, train: bool, count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [N, C, H, W] and class indices [N]."""
    data = CIFAR10(root, train=train, download=True)
    samples = [data[index] for index in range(count)]
    images = np.stack([np.asarray(image, np.uint8).transpose(2, 0, 1) for image, _ in samples])
    return images, np.array([label for _, label in samples])


if __name__ == "__main__":
    main(*sys.argv[1:])
