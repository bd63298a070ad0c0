"""The second smallest solution of ``(D - A) v = lambda D v``, on which a graph is cut.

With ``u = D^(1/2) v`` it is the second largest eigenvector of ``D^(-1/2) A D^(-1/2)``, whose
largest one is known: ``D^(1/2) 1`` with eigenvalue 1 (Shi and Malik 2000). That one is moved to
-1, so that a Lanczos iteration has a single end of the spectrum to find.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from divide_and_conquer.divide.links import WEAK_LINK, Links

# Below this number of regions LAPACK is as fast.
DENSE_BELOW = 200
# Lanczos vectors between restarts, restarts, and the residual at which it ends.
BASIS = 40
RESTARTS = 300
TOLERANCE = 1e-12


def second_eigenpair(links: Links) -> tuple[float, np.ndarray]:
    """Return ``(lambda, v)`` of the second smallest solution, ``v float64 [N]``.

    ``v' D v`` is 1 and the entry of largest size is positive. Needs two regions or more.
    """
    degrees = links.times(np.ones(links.count))
    scale = 1.0 / np.sqrt(degrees)
    found = None
    if links.count >= DENSE_BELOW:
        found = _lanczos(links, scale)
    value, vector = _dense(links, scale) if found is None else found
    vector = vector * (scale / np.linalg.norm(vector))
    return 1.0 - value, -vector if vector[np.abs(vector).argmax()] < 0 else vector


def _lanczos(links: Links, scale: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Return the second largest eigenpair of the normalised affinity; None: not converged."""
    first = 1.0 / scale
    first /= np.linalg.norm(first)

    def product(vector: np.ndarray) -> np.ndarray:
        return scale * links.times(scale * vector) - 2.0 * first * (first @ vector)

    operator = LinearOperator((links.count, links.count), matvec=product, dtype=np.float64)
    # The start vector is fixed because ARPACK's default is random.
    start = np.cos(np.arange(links.count, dtype=np.float64))
    try:
        values, vectors = eigsh(
            operator, k=1, which="LA", v0=start, tol=TOLERANCE, ncv=BASIS, maxiter=RESTARTS
        )
    except ArpackError:
        return None
    return float(values[0]), vectors[:, 0]


def _dense(links: Links, scale: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the same pair by LAPACK, which always ends."""
    matrix = np.where(links.linked(), 1.0, WEAK_LINK) * scale[:, None] * scale[None, :]
    count = links.count
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[count - 2, count - 1])
    return float(values[0]), vectors[:, 0]
