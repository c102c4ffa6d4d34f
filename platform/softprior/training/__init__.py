"""One trial from its spec to its record: sample, optimise, evaluate, resume."""
