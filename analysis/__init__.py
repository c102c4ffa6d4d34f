"""Reads results and returns tables and figures. Runs in the driver only."""
