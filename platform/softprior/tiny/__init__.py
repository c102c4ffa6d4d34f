"""The project's own frozen language model: how it is made, and the weights that came out.

A Llama of a million weights that has read 106 Wikipedia articles and does sums when told to. It is
small enough for tests and real enough for prompt-tuning: without being told, it does not add.
"""
