"""Intel Loihi 1, by the constants of the public nengo-loihi package (version 1.1)."""

from icsnn_deploy.targets.profile import TargetProfile

LOIHI1 = TargetProfile(
    name="loihi1",
    about="Intel Loihi 1: 128 cores of 1,024 compartments",
    # nengo_loihi/builder/discretize.py: weights of mixed sign are stored as 8 bits and used as
    # even numbers, -256..254.
    weight_bits=8,
    weight_step=2,
    # nengo_loihi/builder/discretize.py: v and u are 23 bits plus sign; weights are added 2^6 up.
    potential_bits=24,
    potential_shift=6,
    # nengo_loihi/builder/discretize.py: Q_BITS = 21, plus sign, of the synaptic accumulator q0
    accumulator_bits=22,
    potential_saturates=False,  # nengo-loihi's emulator reports an overflow as an error
    # nengo_loihi/builder/discretize.py: VTH_MAN_MAX = 2^17 - 1, VTH_EXP = 6
    threshold_bits=17,
    hard_reset="zero",  # nengo_loihi/emulator/interface.py: a spike sets v to 0
    # Its emulator subtracts by a synapse in u, without decay at decay_u = -1 only, which its
    # hardware validator refuses; brian2-loihi takes a decay of 0 to be exact.
    soft_reset="self-connection",
    # nengo_loihi/builder/discretize.py: BIAS_MAN_MAX = 2^12 - 1, BIAS_EXP_MAX = 7
    bias_bits=13,
    bias_exponent=7,
    # Graded spikes came with Loihi 2 (Intel, Loihi 2 technology brief, 2021).
    analog_input=False,
    cores=128,  # WikiChip, "Loihi": 128 neuromorphic cores; 128 * 1,024 = its 131,072 neurons
    core_neurons=1024,  # nengo_loihi/block.py: MAX_COMPARTMENTS
    core_synapse_bits=2**20,  # nengo_loihi/block.py: MAX_SYNAPSE_BITS, 128 KiB
    core_in_axons=4096,  # nengo_loihi/block.py: MAX_IN_AXONS
    core_out_axons=4096,  # nengo_loihi/block.py: MAX_OUT_AXONS
    core_thresholds=8,  # nengo_loihi/hardware/nxsdk_objects.py: VTH_PROFILES_MAX
    uncertain=("analog_input", "core_thresholds", "soft_reset", "weight_step"),
    notes=(
        "Soft reset on the stock neuron needs a self-connection of weight -v_threshold into a "
        "current without decay. nengo-loihi and brian2-loihi disagree on whether the chip has one.",
        "Synapses are counted one by one: sharing of convolution kernels is not assumed "
        "(shares_kernels=true counts a kernel once per core).",
    ),
)
