"""The generic target, which has no limits: simulators."""

from icsnn_deploy.targets.profile import TargetProfile

GENERIC = TargetProfile(name="generic", about="no limits; simulators")
