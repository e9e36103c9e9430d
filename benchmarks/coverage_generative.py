"""Generators and discriminators of adversarial networks."""

from __future__ import annotations

from coverage_zoo import Architecture, handwritten
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def dcgan_generator(act: type[nn.Module], tanh: bool) -> nn.Module:
    layers: list[nn.Module] = []
    for c_in, c_out, stride, padding in ((16, 16, 1, 0), (16, 8, 2, 1)):
        layers += [nn.ConvTranspose2d(c_in, c_out, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(c_out), act()]
    layers += [nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False)]
    return nn.Sequential(*layers, *([nn.Tanh()] if tanh else []))


def dcgan_discriminator(sigmoid: bool, spectral: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for c_in, c_out in ((3, 8), (8, 16)):
        conv = nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False)
        layers += [spectral_norm(conv)] if spectral else [conv, nn.BatchNorm2d(c_out)]
        layers += [nn.LeakyReLU(0.2, inplace=True)]
    layers += [nn.Conv2d(16, 1, 8, bias=False)]
    return nn.Sequential(*layers, *([nn.Sigmoid()] if sigmoid else []), nn.Flatten())


def patch_gan() -> nn.Module:
    """PatchGAN of pix2pix: a score per patch."""
    body = [nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1)]
    body += [nn.BatchNorm2d(16), nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 4, 1, 1)]
    return nn.Sequential(*body, nn.BatchNorm2d(16), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4, 1, 1))


def mlp_generator() -> nn.Module:
    def block(c_in: int, c_out: int) -> list[nn.Module]:
        return [nn.Linear(c_in, c_out), nn.BatchNorm1d(c_out, 0.8), nn.LeakyReLU(0.2, inplace=True)]

    last = [nn.Linear(64, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))]
    return nn.Sequential(*block(16, 32), *block(32, 64), *last)


class UpsamplingGenerator(nn.Module):
    """A linear layer viewed as an image, then nearest upsampling and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16 * 16)
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(16), nn.Upsample(scale_factor=2), nn.Conv2d(16, 8, 3, padding=1)),
            *(nn.BatchNorm2d(8, 0.8), nn.LeakyReLU(0.2, inplace=True), nn.Upsample(scale_factor=2)),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        x = self.linear(z)
        out: Tensor = self.body(x.view(x.shape[0], 16, 4, 4))
        return out


def architectures() -> list[Architecture]:
    image, noise = ((3, 32, 32),), ((16, 1, 1),)
    return handwritten(
        {
            "dcgan-generator": (lambda: dcgan_generator(nn.ReLU, True), noise),
            "dcgan-generator-no-tanh": (lambda: dcgan_generator(nn.ReLU, False), noise),
            "dcgan-discriminator": (lambda: dcgan_discriminator(True), image),
            "dcgan-discriminator-logit": (lambda: dcgan_discriminator(False), image),
            "sngan-discriminator": (lambda: dcgan_discriminator(False, True), image),
            "patch-gan": (patch_gan, image),
            "mlp-generator": (mlp_generator, ((16,),)),
            "upsampling-generator": (UpsamplingGenerator, ((16,),)),
        }
    )
