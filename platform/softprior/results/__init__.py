"""What a study leaves: its folder, local or in a bucket, with records and posteriors."""
