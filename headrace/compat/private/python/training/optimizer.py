"""What `tensorflow.python.training.optimizer` has besides public names, as other optimizers use it."""

from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.optimizer import _var_key, sum_repeated_rows


def _deduplicate_indexed_slices(values, indices):
    """(rows, row numbers) in which each row number occurs once, repeated ones added up."""
    summed = sum_repeated_rows(IndexedSlices(values, indices))
    return summed.values, summed.indices


__all__ = ["_deduplicate_indexed_slices", "_var_key"]
