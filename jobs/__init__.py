"""Entry points for people and for `ray job submit`. Nothing a worker imports."""

import os

# A thread that waits for another one sleeps, as in workers, see `softprior.training.threads`: spinning beside
# other programs, a report of 500 trials took 73 s of processor time, and 14 with a single thread. The library
# reads this once, as it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
