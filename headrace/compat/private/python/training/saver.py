"""What `tensorflow.python.training.saver` has besides public names: the builders that libraries extend."""

from headrace.train.object_based import object_graph_key_mapping
from headrace.train.saver import _import_meta_graph_with_return_elements
from headrace.train.saver import get_saver_or_default as _get_saver_or_default
from headrace.train.saver_builder import BaseSaverBuilder, BulkSaverBuilder

__all__ = [
    "BaseSaverBuilder",
    "BulkSaverBuilder",
    "_get_saver_or_default",
    "_import_meta_graph_with_return_elements",
    "object_graph_key_mapping",
]
