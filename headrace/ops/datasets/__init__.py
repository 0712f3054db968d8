"""Ops of `tf.data`: datasets flow as variants, iterators live in the session.

Each transformation is one op; its host rule makes a `Dataset`, from which an iterator gets the elements one by one.
"""

from headrace.ops.datasets import (
    background as background,
)
from headrace.ops.datasets import (
    batching as batching,
)
from headrace.ops.datasets import (
    cache as cache,
)
from headrace.ops.datasets import (
    choice as choice,
)
from headrace.ops.datasets import (
    files as files,
)
from headrace.ops.datasets import (
    functional as functional,
)
from headrace.ops.datasets import (
    grouping as grouping,
)
from headrace.ops.datasets import (
    iterators as iterators,
)
from headrace.ops.datasets import (
    order as order,
)
from headrace.ops.datasets import (
    shuffle as shuffle,
)
from headrace.ops.datasets import (
    single as single,
)
from headrace.ops.datasets import (
    sources as sources,
)
