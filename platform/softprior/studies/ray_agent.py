"""A program that stands in for Ray's dashboard agent: it waits until Ray's process for this node has ended.

That process insists on an agent, and ends with it. This one starts in a hundredth of a second.
"""

from __future__ import annotations

import os
import time

if __name__ == "__main__":
    raylet = int(os.environ["RAY_RAYLET_PID"])
    while os.getppid() == raylet:
        time.sleep(0.2)
