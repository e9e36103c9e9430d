"""One integrate-and-fire step: the definition that every backend is held to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def if_step(
    v: Array, current: Array, v_threshold: Array, v_reset: Array | None = None
) -> tuple[Array, Array, Array]:
    """One IF step with soft reset, or hard reset to v_reset, and at most one spike.

        u[t] = v[t-1] + I[t]
        s[t] = 1 if u[t] >= v_threshold else 0
        v[t] = u[t] - v_threshold * s[t]            (IC-SNN, Eqs. 4 to 6, with >= for >)
        v[t] = v_reset where s[t] else u[t]         hard reset (NIR 1.0.5, IF, with >= for >)

    Args:
        v: membrane potential after the last step, [B, *shape].
        current: input current I of this step, [B, *shape], same unit as v.
        v_threshold: firing threshold, broadcastable to [B, *shape], > 0.
        v_reset: what v is set to by a spike, likewise; None for soft reset.

    Returns:
        (s, u, v): spikes as uint8 0/1, the potential before the reset, and after it.
    """
    u = v + current
    s = u >= v_threshold
    after = u - v_threshold if v_reset is None else v_reset
    return s.astype(np.uint8), u, np.where(s, after, u)
