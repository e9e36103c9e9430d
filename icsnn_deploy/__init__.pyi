# The public names of icsnn_deploy: the only list of them. What is not here is not public
# (docs/reference/stability.md). `X as X` tells type checkers that X is exported.

# Convert
from .conversion.conversion import Conversion as Conversion
from .conversion.convert import convert as convert
from .conversion.calibration.context import CalibrationContext as CalibrationContext
from .conversion.calibration.method import Method as Method
from .conversion.calibration.recipe import Recipe as Recipe
from .conversion.calibration.statistics import ActivationStatistics as ActivationStatistics
from .conversion.calibration.threshold_rules import LearnedBound as LearnedBound
from .conversion.calibration.threshold_rules import MaxThreshold as MaxThreshold
from .conversion.calibration.threshold_rules import MSEThreshold as MSEThreshold
from .conversion.calibration.threshold_rules import QuantileThreshold as QuantileThreshold
from .conversion.calibration.threshold_rules import SpikeNormThreshold as SpikeNormThreshold
from .conversion.calibration.threshold_rules import StatisticsRule as StatisticsRule
from .conversion.calibration.threshold_rules import ThresholdRule as ThresholdRule
from .conversion.calibration.v_init_rules import CompensatedResidual as CompensatedResidual
from .conversion.calibration.v_init_rules import Compensation as Compensation
from .conversion.calibration.v_init_rules import DataResidual as DataResidual
from .conversion.calibration.v_init_rules import Half as Half
from .conversion.calibration.v_init_rules import VInitRule as VInitRule
from .conversion.calibration.v_init_rules import WeightResidual as WeightResidual
from .conversion.calibration.v_init_rules import Zero as Zero
from .conversion.frontend.approximate.options import Approximation as Approximation
from .conversion.frontend.declared import DeclaredActivation as DeclaredActivation
from .conversion.frontend.onnx_model.read import read_onnx as read_onnx
from .data import Normalization as Normalization

# The network, and integers
from .graph.certificate import Certificate as Certificate
from .graph.certificate import certify as certify
from .graph.graph import Graph as Graph
from .graph.parts import Part as Part
from .lattice.options import LatticeOptions as LatticeOptions
from .lattice.quantization import Quantization as Quantization
from .lattice.quantize import quantize as quantize

# Files
from .bundle.bundle import Bundle as Bundle
from .bundle.create import create_bundle as create_bundle
from .bundle.bundle import open_bundle as open_bundle
from .exporters import export as export
from .exporters import export_into as export_into
from .exporters.nir.formats import NirOptions as NirOptions
from .exporters.nir.read.file import from_nir as from_nir
from .exporters.onnx.contract import OnnxOptions as OnnxOptions

# Run and prove
from .backends.prediction import Prediction as Prediction
from .backends.torch.spiking_network import SpikingNetwork as SpikingNetwork
from .backends.torch.spiking_network import load as load
from .graph.arrangement import named_outputs as named_outputs
from .graph.arrangement import pack_inputs as pack_inputs
from .graph.inputs import encode_rate as encode_rate
from .backends import open_backend as open_backend
from .backends.recording import Record as Record
from .backends.recording import Recording as Recording
from .backends.reference import ReferenceSimulator as ReferenceSimulator
from .parity.judge import Comparison as Comparison
from .parity.report import ParityReport as ParityReport
from .parity.judge import Tolerance as Tolerance
from .parity.compare import compare as compare
from .parity.verify import verify as verify
from .splitting.split import Split as Split
from .splitting.split import split as split

# Measure
from .evaluation.options import EvaluationOptions as EvaluationOptions
from .evaluation.result import Evaluation as Evaluation
from .evaluation.run import evaluate as evaluate
from .evaluation.samples import Samples as Samples
from .sweeping.options import SweepOptions as SweepOptions
from .sweeping.result import SweepResult as SweepResult
from .sweeping.run import sweep as sweep

# Hardware targets
from .targets import find_target as find_target
from .targets.check import CheckResult as CheckResult
from .targets.check import check as check
from .targets.profile import TargetProfile as TargetProfile

# Errors
from .errors import BackendUnavailableError as BackendUnavailableError
from .errors import BundleError as BundleError
from .errors import ConversionError as ConversionError
from .errors import DataError as DataError
from .errors import ExportError as ExportError
from .errors import GraphError as GraphError
from .errors import IcsnnError as IcsnnError
from .errors import LatticeError as LatticeError
from .errors import LossyExportError as LossyExportError
from .errors import ParityError as ParityError
from .errors import SimulationError as SimulationError
from .errors import TargetError as TargetError
from .errors import UnsupportedOperatorError as UnsupportedOperatorError
from .version import __version__ as __version__
