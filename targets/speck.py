"""SynSense Speck (DYNAP-CNN), by the public sinabs package (version 3.1) and its documentation."""

from icsnn_deploy.targets.profile import TargetProfile

SPECK = TargetProfile(
    name="speck",
    about="SynSense Speck / DYNAP-CNN: 9 convolution cores, events only",
    # sinabs/backend/dynapcnn/discretize.py: DYNAPCNN_WEIGHT_PRECISION_BITS = 8, used for the
    # weights and the biases; DYNAPCNN_STATE_PRECISION_BITS = 16 for state and threshold.
    weight_bits=8,
    bias_bits=8,
    potential_bits=16,
    threshold_bits=15,  # the positive half of 16 bits signed
    threshold_granularity="layer",  # chips/dynapcnn.py: one threshold_high per core
    hard_reset="zero",  # chips/dynapcnn.py: return_to_zero for a membrane reset
    parallel_synapses=False,  # a kernel has one weight for each channel and tap
    # sinabs docs, speck/overview: a core processes each event when it receives it.
    event_by_event=True,
    analog_input=False,  # sinabs docs, speck/overview: layers communicate in events only
    readout="host",  # every core ends in spiking neurons; the head runs on their spike counts
    structure="cnn",  # sinabs docs, speck/overview: Conv2d, then spiking, then sum pooling
    kernel_size=16,  # sinabs docs, speck/overview: max convolutional kernel size 16x16
    strides=(1, 2, 4, 8),  # sinabs docs, speck/overview: stride step
    padding=7,  # sinabs docs, speck/overview: padding 0 to 7
    pooling=(1, 2, 4),  # sinabs docs, speck/overview: sum pooling 1x1, 2x2, 4x4
    features=1024,  # sinabs docs, speck/overview: max channel number
    input_map=128,  # sinabs docs, speck/overview: max input dimension 128x128
    output_map=64,  # sinabs docs, speck/overview: max output feature map 64x64
    destinations=2,  # sinabs docs, speck/faqs/available_network_arch: 2 destination cores
    # sinabs/backend/dynapcnn/chips/dynapcnn.py, get_constraints: words of each of the 9 cores.
    kernel_words=tuple(k * 1024 for k in (16, 16, 16, 32, 32, 64, 64, 16, 16)),
    neuron_words=tuple(k * 1024 for k in (64, 64, 64, 32, 32, 16, 16, 16, 16)),
    bias_words=(1024,) * 9,
    uncertain=("potential_bits", "threshold_bits"),
    notes=(
        "Speck has no time steps: a neuron fires as soon as one event lifts it over its "
        "threshold, and biases have a separate clock. A network that fits may spike differently.",
        "A residual join is one core whose kernel holds both branches in different channels, fed "
        "by two cores (channel shift).",
    ),
)
