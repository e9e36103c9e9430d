"""SpiNNaker2: Arm processing elements; neurons are software, so memory is the limit."""

from icsnn_deploy.targets.profile import TargetProfile

SPINNAKER2 = TargetProfile(
    name="spinnaker2",
    about="SpiNNaker2: 152 ARM Cortex-M4F elements of 128 KB",
    weight_bits=8,  # third-party: software may hold wider weights in more memory
    potential_bits=32,  # ARM Cortex-M4F: 32-bit registers
    threshold_bits=31,
    bias_bits=32,
    cores=152,  # SpiNNaker2 datasheet, version 0.03 (2021-08): processing elements
    core_sram_bytes=128 * 1024,  # SpiNNaker2 datasheet, version 0.03 (2021-08): local SRAM
    shares_kernels=True,  # the convolution is a loop over one stored kernel
    uncertain=("weight_bits", "core_sram_bytes"),
    notes=(
        "Program, stack and spike buffers are not subtracted from the 128 KB: override "
        "core_sram_bytes with what your software leaves free.",
    ),
)
