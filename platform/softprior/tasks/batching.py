"""Groups examples into batches by length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from softprior.seeding import numpy_generator

WINDOW = 16
"""Number of batches sorted by length together: few enough that every epoch mixes examples anew."""


def batch_size(examples: int, batch: int) -> int:
    """Number of examples in every training batch."""
    return min(batch, examples)


def training_batches(lengths: Sequence[int], batch: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices, epoch after epoch, every batch of the same size.

    An epoch is a random order of all examples, cut into windows of 16 batches; a window's examples are
    sorted by length and cut into batches, and the epoch's batches are shuffled. The `len(lengths)
    mod batch` examples at the end of the order make no full batch and are left out of that epoch;
    the next one leaves out others. (A smaller batch would weigh its examples more, and filling it
    up from the next epoch would put copies of an example side by side.) Fewer examples than `batch`
    all go into every batch.

    Each epoch has its own generator, so `itertools.islice(..., k, None)` resumes exactly at step k.
    """
    if not lengths:
        raise ValueError("there are no examples to make batches of")
    size = batch_size(len(lengths), batch)
    full = len(lengths) - len(lengths) % size
    epoch = 0
    while True:
        generator = numpy_generator(seed, "data order", epoch)
        order = generator.permutation(len(lengths))[:full].tolist()
        batches = [
            window[start : start + size]
            for at in range(0, full, WINDOW * size)
            for window in [sorted(order[at : at + WINDOW * size], key=lengths.__getitem__)]
            for start in range(0, len(window), size)
        ]
        for index in generator.permutation(len(batches)):
            yield batches[index]
        epoch += 1


def evaluation_batches(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Batches of indices in order of length that contain every example once; the last may be smaller."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + batch] for start in range(0, len(order), batch)]
