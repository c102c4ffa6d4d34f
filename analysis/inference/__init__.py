"""Statistics for studies of few seeds: tests, intervals, equality, what a study could have detected."""
