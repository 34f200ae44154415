"""A generic pool of warm, reusable things.

It opens things before they are needed, lends each to one borrower at a time, and takes back only what may be used
again. What is lent it asks four questions about (`Hooks`), and knows nothing else of it.
"""

from worker.pool.errors import OpenFailed, PoolClosed, PoolError, PoolFull, PoolTimeout
from worker.pool.hooks import Hooks
from worker.pool.policy import Policy
from worker.pool.pool import Pool

__all__ = ["Hooks", "OpenFailed", "Policy", "Pool", "PoolClosed", "PoolError", "PoolFull", "PoolTimeout"]
