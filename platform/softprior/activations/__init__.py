"""Statistics of a frozen model's activations over tasks and files: the body of the Ray Data job."""
