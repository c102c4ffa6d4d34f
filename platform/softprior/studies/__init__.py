"""Studies: from a file to trials, and trials to a results folder, through Ray Tune."""
