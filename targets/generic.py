"""The target without limits: simulators."""

from icsnn_deploy.targets.profile import Profile

GENERIC = Profile(name="generic", about="no limits; simulators")
