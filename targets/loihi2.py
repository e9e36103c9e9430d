"""Intel Loihi 2, as Lava's fixed-point simulation models it."""

from icsnn_deploy.targets.profile import TargetProfile

LOIHI2 = TargetProfile(
    name="loihi2",
    about="Intel Loihi 2: 128 neuro-cores, with the widths of Lava's fixed-point models",
    # lava-nc 0.10 process models (Dense): 8-bit signed; a Dense of mixed signs
    # takes even weights, -256..254.
    weight_bits=8,
    weight_step=2,
    # lava-nc 0.10, proc/lif/models.py: uv_bitwidth = 24, act_shift = 6, v is clipped to
    # +-(2^23 - 1), so that |v| < 2^17 in units of weight.
    potential_bits=24,
    potential_shift=6,
    potential_saturates=True,
    threshold_bits=17,  # lava-nc 0.10, proc/lif/models.py: vth is a 17-bit mantissa, << 6
    hard_reset="zero",  # lava-nc 0.10, proc/lif/models.py, reset_voltage: a spike sets v to 0
    bias_bits=13,  # lava-nc 0.10, proc/lif/models.py: bias_mant, 13 bits signed
    bias_exponent=7,  # lava-nc 0.10, proc/lif/models.py: bias_exp, 3 bits
    cores=128,  # open-neuromorphic.org, "Loihi 2": 128 neuron cores; some texts say 120
    # Third-party: 8,192 * 128 = the 1 M neurons of open-neuromorphic.org.
    core_neurons=8192,
    core_synapse_bits=192 * 1024 * 8,  # third-party: 192 KB of synaptic memory a core
    uncertain=("cores", "core_neurons", "core_synapse_bits"),
    notes=(
        "The widths are those of the simulator, not of the silicon. Soft reset needs a custom "
        "neuron, or the stock neuron with a self-connection, which has one v_threshold per "
        "population (threshold_granularity=layer).",
        "Synapses are counted one by one: sharing of convolution kernels is not assumed "
        "(shares_kernels=true counts a kernel once per core).",
    ),
)
