"""Settings for the whole test run."""

import os

# The tensors of these tests are tiny: a thread team costs more than it computes, and on a busy
# machine it costs many times more. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Kernels prove themselves anew, whatever another run found, and leave nothing in the user's folder.
os.environ["ICSNN_KERNEL_CACHE"] = ""
