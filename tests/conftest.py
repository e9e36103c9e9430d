"""Settings for the whole test run."""

import math
import os

from hypothesis import settings

from icsnn_deploy import progress

# The tensors of these tests are tiny: a thread team costs more than it computes, and on a busy
# machine it costs many times more. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Kernels prove themselves anew, whatever another run found, and leave nothing in the user's folder.
os.environ["ICSNN_KERNEL_CACHE"] = ""

# Progress is shown on standard error after some seconds: here it would depend on the machine.
os.environ["ICSNN_PROGRESS"] = "off"

# Short steps are reported where they take long, which would depend on the machine, too.
progress.REPORT_EVERY_S = math.inf

# No test is timed: on a busy machine an example may take many times longer. All else, such as what
# hypothesis changes in CI, stays as it is.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")
