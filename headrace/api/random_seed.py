"""Seeds of random operations: the graph's, the operation's, and how the two are combined."""

from __future__ import annotations

from headrace.api.export import export
from headrace.graph import default

DEFAULT_GRAPH_SEED = 87654321
_MAX_INT32 = 2**31 - 1


@export("random.get_seed", "get_seed")
def get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """The attrs `seed` and `seed2` of a random operation that is added now.

    op_seed: the seed its maker gave it, or None. With a graph-level seed the number of the newest
    node of the graph stands in for it; without any seed the answer is (None, None), and the
    operation draws something new in each session.
    """
    graph = default.get_default_graph()
    if graph.seed is not None:
        op_seed = graph._last_id if op_seed is None else op_seed
        seeds = graph.seed % _MAX_INT32, op_seed % _MAX_INT32
    elif op_seed is not None:
        seeds = DEFAULT_GRAPH_SEED, op_seed % _MAX_INT32
    else:
        return None, None
    # (0, 0) would mean no seeds at all.
    return (0, _MAX_INT32) if seeds == (0, 0) else seeds


@export("random.set_random_seed", "set_random_seed")
def set_random_seed(seed: int | None) -> None:
    """Sets the graph-level seed of the default graph, for the random operations that are added from here on.

    Operations without a seed of their own then draw the same numbers in every session, each its
    own.
    """
    default.get_default_graph().seed = seed
