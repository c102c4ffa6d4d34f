"""The report of a study: one HTML file that opens offline, and the verdict table in Markdown."""
