"""`tf.losses`: what a model's error costs, weighted, averaged and collected.

What belongs here composes operations of the api and files the result in the collection of losses;
cross entropies without weights and collections are in `tf.nn`.
"""

from headrace.losses import (
    collected as collected,
)
from headrace.losses import (
    cross_entropy as cross_entropy,
)
from headrace.losses import (
    distance as distance,
)
from headrace.losses import (
    weighted as weighted,
)
