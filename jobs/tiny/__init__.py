"""The recipe and the card of the project's own frozen language model, whose weights come with the package.

A Llama with about a million weights that was trained on 106 Wikipedia articles and does sums when told to.
It is small enough for tests and real enough for prompt-tuning: without being told, it does not add.
"""
