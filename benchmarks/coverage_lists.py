"""Names of the libraries' architectures, with the input shape that each is built for.

Small variants of each family, with the smallest images of 32, 64, 96, 128 and 224 pixels that they
run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name in its library, an input shape without the batch, and options of the library."""

    name: str
    shape: Shape
    options: dict[str, Any] = field(default_factory=dict)


TORCHVISION = """
3x32x32: convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet mnasnet0_5
    mnasnet1_0 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large regnet_x_400mf regnet_y_400mf
    regnet_x_800mf resnet18 resnet34 resnet50 resnext50_32x4d shufflenet_v2_x0_5
    shufflenet_v2_x1_0 squeezenet1_0 squeezenet1_1 swin_t swin_v2_t vgg11 vgg11_bn vgg16
    vgg16_bn wide_resnet50_2 fcn_resnet50 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large
    lraspp_mobilenet_v3_large fpn-resnet18 fpn-resnet34 fpn-mobilenet_v2 fpn-mobilenet_v3_small
3x4x32x32: r3d_18 mc3_18 r2plus1d_18
3x64x64: alexnet
3x96x96: inception_v3
3x224x224: vit_b_32
3x4x64x64: swin3d_t
"""
TIMM = """
3x32x32: test_vit mobileone_s0 gernet_s repvgg_a0 lambda_resnet26t poolformer_s12
    convmixer_768_32 test_convnext convnext_atto cpubone_nano crossvit_tiny_240 cs3darknet_s
    darknet17 cspresnet50 darknet53 cspdarknet53 cspnext_tiny densenet121 densenetblur121d
    dla46_c dla46x_c dla34 test_nfnet nf_resnet26 dpn48b dpn68 ese_vovnet19b_dw vovnet39a
    resnet10t resnet14t resnet18 resnet18d resnetblur18 resnet26 resnext26ts seresnet18
    ecaresnet26t edgenext_xx_small mnasnet_small mnasnet_050 efficientnet_lite0 efficientnet_b0
    mobilenetv2_035 mobilenetv2_050 mixnet_s fbnetc_100 spnasnet_100 semnasnet_050 tinynet_e
    efficientvim_m1 efficientvit_b0 efficientvit_m0 fasternet_t0 fasternet_t2 fastvit_t8
    mobilenetv3_small_050 lcnet_035 lcnet_050 mobilenetv4_conv_small_035 mobilenetv4_conv_small
    tf_mobilenetv3_small_minimal_100 focalnet_tiny_srf ghostnet_050 hardcorenas_a hgnetv2_b0
    hgnet_tiny hrnet_w18_small iformer_t inception_next_atto lcnetv2_small legacy_seresnet18
    legacy_xception lowformer_b0 test_mambaout mobilevit_xxs mobilevitv2_050 mvitv2_tiny
    nextvit_small pvt_v2_b0 rdnet_tiny regnetx_002 regnetx_004 regnety_002 regnetz_005
    repghostnet_050 repvit_m0_9 res2net50_14w_8s res2next50 resnest14d resnetv2_18 resnetv2_18d
    resnetv2_50 rexnet_100 selecsls42 sequencer2d_s shvit_s1 skresnet18 starnet_s050
    swiftformer_xs tiny_vit_5m_224 tresnet_m twins_svt_small vgg11 xception41 xception41p
    xcit_nano_12_p8_224 hardcorenas_b rexnetr_100 wide_resnet50_2 resnext50_32x4d resnet34
3x32x32 img_size=32: vit_tiny_patch16_224 botnet26t_256 cait_xxs24_224 coat_lite_tiny
    maxvit_pico_rw_256 convit_tiny deit_tiny_patch16_224 efficientformerv2_s0
    eva02_tiny_patch14_224 gcvit_xxtiny gmixer_12_224 resmlp_12_224 mixer_s32_224 hiera_tiny_224
    levit_128s nest_tiny pit_ti_224 swin_tiny_patch4_window7_224 tnt_s_patch16_224
    visformer_tiny volo_d1_224
3x96x96: inception_resnet_v2 inception_v3 inception_v4
3x64x64: ghostnetv2_100 ghostnetv3_050
3x224x224: efficientformer_l1
"""
PYTORCHCV = """
3x32x32: airnet50_1x64d_r16 bagnet9 bam_resnet18 bninception cbam_resnet18 cgnet_cityscapes
    condensenet74_c8_g8 ctxnet_cityscapes dabnet_cityscapes darknet53 centernet_resnet18_coco
    densenet40_k12_cifar10 diaresnet10 diapreresnet10 dicenet_w7d8 diracnet18v2 dla34 dla46c
    drnc26 drnd22 edanet_cityscapes enet_cityscapes erfnet_cityscapes esnet_cityscapes
    espcnet_cityscapes espnetv2_wd2 fastscnn_cityscapes fbnet_cb fdmobilenet_wd4 fishnet99
    fpenet_cityscapes fractalnet_cifar10 ghostnet hardnet39ds hrnet_w18_small_v1 ibn_densenet121
    ibn_resnet50 ibn_resnext50_32x4d ibnb_resnet50 icnet_resnetd50b_cityscapes igcv3_wd4
    irevnet301 linknet_cityscapes lwopenpose2d_mobilenet_cmupan_coco menet108_8x1_g3 mixnet_s
    mnasnet_b1 mnasnet_a1 mobilenet_wd4 mobilenetb_wd4 mobilenetv2_wd4 mobilenetv3_small_w1
    msdnet22_cifar10 nasnet_4a1056 nin_cifar10 octresnet10_ad2 peleenet preresnet10
    preresnet20_cifar10 proxylessnas_cpu pspnet_resnetd50b_cityscapes pyramidnet110_a48_cifar10
    regnetx002 regnety002 resattnet56 resdropresnet20_cifar10 resnesta18 resnet10
    resnet20_cifar10 resneta10 resnetd50b resnext14_16x4d revnet38 rir_cifar10 ror3_56_cifar10
    segnet_cityscapes selecsls42 senet16 sepreresnet10 seresnet10 seresnet20_cifar10
    shakedropresnet20_cifar10 shakeshakeresnet20_2x16d_cifar10 sharesnet18 shufflenet_g1_wd4
    shufflenet_g3_w1 shufflenetv2_wd2 shufflenetv2b_wd2 simplepose_resnet18_coco
    simplepose_mobile_resnet18_coco sknet50 sparsenet121 spnasnet sqnet_cityscapes sqnxt23_w1
    sqnxt23v5_w1 tresnet_m unet_cityscapes vovnet27s vovnet39 wrn20_10_1bit_cifar10
    xdensenet40_2_k24_bc_cifar10 prnet bisenet_resnet18_celebamaskhq
    fcn8sd_resnetd50b_cityscapes deeplabv3_resnetd50b_cityscapes channelnet darts darknet_tiny
    darknet19 squeezenet_v1_0 squeezenet_v1_1 squeezeresnet_v1_1
3x96x96: inceptionresnetv1 inceptionv3 inceptionv4
3x128x128: lffd20x5s320v2_widerface scnet50 sinet_cityscapes
3x64x64: lednet_cityscapes darknet_ref
"""
SMP = """
3x64x64: Unet-resnet18 Unet-mobilenet_v2 UnetPlusPlus-resnet18 UnetPlusPlus-mobilenet_v2
    Linknet-resnet18 Linknet-mobilenet_v2 FPN-resnet18 FPN-mobilenet_v2 PSPNet-resnet18
    PSPNet-mobilenet_v2 DeepLabV3-resnet18 DeepLabV3-mobilenet_v2 DeepLabV3Plus-resnet18
    DeepLabV3Plus-mobilenet_v2 MAnet-resnet18 MAnet-mobilenet_v2 UPerNet-resnet18
    UPerNet-mobilenet_v2 Segformer-resnet18 Segformer-mit_b0 Unet-vgg11_bn Unet-densenet121
    Unet-mobileone_s0 Unet-timm-efficientnet-b0 Unet-timm-tf_efficientnet_lite0 Linknet-vgg11_bn
    FPN-dpn68
3x128x128: PAN-resnet18 PAN-mobilenet_v2
3x224x224: DPT-tu-vit_tiny_patch16_224
"""
ULTRALYTICS = """
3x64x64: yolov8n-cls+relu yolov8n+relu yolov3-tiny+leaky yolov3-tiny yolov5n yolov8n yolov8n-cls
    yolo11n yolov6n
3x32x32: yolov8n-cls+leaky
"""


def entries() -> dict[str, list[Entry]]:
    """Entries by library."""
    texts = {
        "torchvision": TORCHVISION,
        "timm": TIMM,
        "pytorchcv": PYTORCHCV,
        "smp": SMP,
        "ultralytics": ULTRALYTICS,
    }
    return {library: list(_parse(text)) for library, text in texts.items()}


def _parse(text: str) -> Iterator[Entry]:
    """Lines "shape option=value ...: name name ...", continued where they begin with a space."""
    for line in text.strip().replace("\n    ", " ").splitlines():
        start, _, names = line.partition(": ")
        shape, *options = start.split()
        for name in names.split():
            yield Entry(
                name=name,
                shape=tuple(int(size) for size in shape.split("x")),
                options={key: int(value) for key, value in (o.split("=") for o in options)},
            )
