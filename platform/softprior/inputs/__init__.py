"""What a user writes: study files and their values, checked and named."""
