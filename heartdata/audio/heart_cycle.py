"""The most probable course of S1, systole, S2 and diastole: a hidden Markov model with a duration for each state.

After Schmidt et al. 2010 (Physiol. Meas. 31:513), without trained emissions: the evidence is the loudness itself.
"""

from typing import Any

import numba
import numpy as np

S1, SYSTOLE, S2, DIASTOLE = range(4)
_jit: Any = numba.njit(cache=True, nogil=True)


@_jit
def most_probable(evidence: np.ndarray, durations: np.ndarray) -> tuple[float, np.ndarray]:
    """The log-probability of the best course, and its state in each frame, by the Viterbi algorithm.

    ``evidence`` (frames,): how much more probable each frame is with a heart sound than without, as a logarithm.
    ``durations`` (4, d): log-probability that a state lasts 0, 1, ... frames; the first and the last may be cut short.
    """
    n = len(evidence)
    total = np.zeros(n + 1)
    for t in range(n):
        total[t + 1] = total[t] + evidence[t]
    best = np.zeros((n + 1, 4))
    lasted = np.zeros((n + 1, 4), np.int32)
    for t in range(1, n + 1):
        for state in range(4):
            sign = 1.0 if state in (S1, S2) else -1.0
            best[t, state] = -np.inf
            for frames in range(1, min(durations.shape[1] - 1, t) + 1):
                start = t - frames
                value = sign * (total[t] - total[start]) + best[start, (state + 3) % 4]
                if start > 0 and t < n:
                    value += durations[state, frames]
                if value > best[t, state]:
                    best[t, state], lasted[t, state] = value, frames
    states = np.empty(n, np.int8)
    state, t = int(best[n].argmax()), n
    score = best[n, state]
    while t > 0:
        frames = lasted[t, state]
        states[t - frames : t] = state
        t, state = t - frames, (state + 3) % 4
    return score, states
