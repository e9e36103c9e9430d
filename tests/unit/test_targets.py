"""The table of targets."""

import pytest

from icsnn_deploy.errors import TargetError
from icsnn_deploy.targets import TARGETS, find_target
from icsnn_deploy.targets.profile import Profile


def test_every_listed_target_is_a_profile_of_its_name() -> None:
    for name in TARGETS:
        assert find_target(name).name == name


def test_generic_has_no_limits() -> None:
    generic = find_target("generic")
    assert generic.weight_bits is None
    assert generic.potential_bits is None
    assert generic.threshold_granularity == "neuron"


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(TargetError, match="no target 'loihi9'; there are generic"):
        find_target("loihi9")


def test_widths_are_checked() -> None:
    with pytest.raises(TargetError, match=r"odd\.weight_bits: 1"):
        Profile(name="odd", about="", weight_bits=1)
