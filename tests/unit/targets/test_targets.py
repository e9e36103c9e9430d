"""The table of targets, their numbers, and overriding them."""

from typing import Any

import pytest

from icsnn_deploy.errors import TargetError
from icsnn_deploy.targets import TARGETS, find_target
from icsnn_deploy.targets.override import override, parse_settings
from icsnn_deploy.targets.profile import TargetProfile


def test_every_listed_target_is_a_profile_of_its_name() -> None:
    for name in TARGETS:
        assert find_target(name).name == name


def test_generic_has_no_limits() -> None:
    generic = find_target("generic")
    assert generic.weight_bits is None
    assert generic.potential_bits is None
    assert generic.threshold_granularity == "neuron"


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(TargetError, match="no target 'loihi9'; there are generic, loihi1"):
        find_target("loihi9")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weight_bits", 1, r"odd\.weight_bits: 1"),
        ("weight_step", 0, r"odd\.weight_step: 0"),
        ("cores", 0, r"odd\.cores: 0"),
        ("padding", -1, r"odd\.padding: -1"),
        ("strides", (), r"odd\.strides: \(\)"),
        ("shares_kernels", 1, r"odd\.shares_kernels: 1"),
        ("threshold_granularity", "pixel", "one of layer, channel, neuron"),
        ("kernel_words", (4, 4), "one entry per core each"),
        ("uncertain", ("color",), "names of the profile's own numbers"),
    ],
)
def test_the_numbers_of_a_profile_are_checked(field: str, value: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        TargetProfile(name="odd", about="", **{field: value})


def test_settings_are_read_as_the_type_of_their_field() -> None:
    settings = parse_settings(
        [
            "cores=120",
            "core_neurons = none",
            "shares_kernels=true",
            "strides=1,2",
            "threshold_granularity=layer",
        ]
    )
    changed = override(find_target("loihi2"), settings)
    assert changed.cores == 120
    assert changed.core_neurons is None
    assert changed.shares_kernels is True
    assert changed.strides == (1, 2)
    assert changed.threshold_granularity == "layer"
    assert changed.uncertain == ("core_synapse_bits",)
    assert find_target("loihi2").cores == 128


def test_values_that_are_no_strings_are_taken_as_they_are() -> None:
    assert override(find_target("loihi2"), {"cores": 120}).cores == 120


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coers": "3"}, "no number 'coers' to override; there are weight_bits"),
        ({"name": "mine"}, "no number 'name'"),
        ({"cores": "many"}, "cores=many: an integer or none is needed"),
        ({"cores": "0"}, "cores: 0, an integer >= 1"),
        ({"strides": "1,x"}, "integers with commas"),
        ({"shares_kernels": "yes"}, "true or false"),
        ({"readout": "moon"}, "one of chip, host"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, str], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        override(find_target("loihi2"), settings)


@pytest.mark.parametrize("line", ["cores", "=3", "cores="])
def test_settings_without_key_or_value(line: str) -> None:
    with pytest.raises(TargetError, match="KEY=VALUE is needed"):
        parse_settings([line])


def test_a_setting_given_twice() -> None:
    with pytest.raises(TargetError, match="more than once"):
        parse_settings(["cores=1", "cores=2"])
