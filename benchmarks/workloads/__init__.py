"""The workloads, one file per family; importing this registers all of them."""

from benchmarks.workloads import (
    embeddings,
    generative,
    graphs,
    images,
    kernels,
    overheads,
    sequences,
    small,
)
from benchmarks.workloads.registry import EVENT, STEP, WORKLOADS
