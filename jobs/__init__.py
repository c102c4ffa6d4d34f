"""Entry points for people and for `ray job submit`. Nothing a worker imports."""
