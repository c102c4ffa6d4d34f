"""Contract suites and slow literal forms: what every prior, method, task and host is held against."""
