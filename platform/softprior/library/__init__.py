"""softprior from Python: studies, their results, and a frozen model for custom training loops."""
