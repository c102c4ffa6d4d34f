"""Entry points for people and for `ray job submit`. Nothing a worker imports."""

import os

# A thread that waits for another one sleeps, as in workers, see `softprior.training.threads`: spinning beside
# other programs, a report took five times the processor time. The library reads this once, as it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
