"""The rules that a Method is built from, by public name."""

from __future__ import annotations

from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
    MaxThreshold,
    MSEThreshold,
    QuantileThreshold,
    SpikeNormThreshold,
    ThresholdRule,
)
from icsnn_deploy.conversion.calibration.v_init_rules import (
    CompensatedResidual,
    Compensation,
    DataResidual,
    Half,
    VInitRule,
    WeightResidual,
    Zero,
)

THRESHOLD_RULES: dict[str, type[ThresholdRule]] = {
    "MaxThreshold": MaxThreshold,
    "QuantileThreshold": QuantileThreshold,
    "MSEThreshold": MSEThreshold,
    "LearnedBound": LearnedBound,
    "SpikeNormThreshold": SpikeNormThreshold,
}
V_INIT_RULES: dict[str, type[VInitRule]] = {
    "Zero": Zero,
    "Half": Half,
    "WeightResidual": WeightResidual,
    "DataResidual": DataResidual,
    "Compensation": Compensation,
    "CompensatedResidual": CompensatedResidual,
}
RULES: dict[str, type[ThresholdRule] | type[VInitRule]] = {**THRESHOLD_RULES, **V_INIT_RULES}
