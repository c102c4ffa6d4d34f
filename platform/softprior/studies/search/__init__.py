"""Searches: a study whose values are ranges, proposed by Optuna, run through Ray Tune."""
