"""Datasets of the names of files."""

from __future__ import annotations

from typing import Any

from headrace.api.diagnostic import Assert
from headrace.core import dtypes
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor


def list_files(dataset_class: Any, file_pattern: Any, shuffle: bool | None, seed: Any) -> Any:
    """See `Dataset.list_files`."""
    graph = default.get_default_graph()
    with graph.name_scope("list_files"):
        pattern = convert_to_tensor(file_pattern, dtypes.string, "file_pattern")
        files = raw.MatchingFiles(pattern=pattern)
        count = raw.Size(input=files, out_type=dtypes.int64)
        found = raw.Greater(x=count, y=convert_to_tensor(0, dtypes.int64), name="match_not_empty")
        check = Assert(
            found, ["No files matched pattern: ", pattern], summarize=1, name="assert_not_empty"
        )
        with graph.control_dependencies([check]):
            files = raw.Identity(input=files)
        dataset = dataset_class.from_tensor_slices(files)
        if shuffle is None or shuffle:
            # The buffer may not be empty, though the list of files may be.
            size = raw.Maximum(x=count, y=convert_to_tensor(1, dtypes.int64))
            dataset = dataset.shuffle(size, seed=seed)
        return dataset
