"""Statistics that merge: empty, update, merge, compute. None keeps what it has seen."""
