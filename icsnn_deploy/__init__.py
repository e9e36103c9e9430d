"""Convert trained PyTorch networks to integrate-and-fire networks, export them and prove parity.

    conversion = icsnn_deploy.convert(model, calibration_data, icsnn_deploy.Recipe(time_steps=8))

The public names stand in `__init__.pyi`, one line each, and are loaded when they are first used:
importing this package imports neither torch nor onnx nor nir.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
