"""softprior from Python: studies, their results, and a frozen model for a loop of one's own."""
