"""Side by side with peers, as ratios of interleaved runs. Not part of the test suite."""
