"""`tf.contrib.crf`: linear-chain conditional random fields: likelihood for training, the best tags for use."""

from headrace.contrib.crf.decoding import (
    CrfDecodeBackwardRnnCell as CrfDecodeBackwardRnnCell,
)
from headrace.contrib.crf.decoding import (
    CrfDecodeForwardRnnCell as CrfDecodeForwardRnnCell,
)
from headrace.contrib.crf.decoding import (
    crf_decode as crf_decode,
)
from headrace.contrib.crf.decoding import (
    viterbi_decode as viterbi_decode,
)
from headrace.contrib.crf.likelihood import (
    CrfForwardRnnCell as CrfForwardRnnCell,
)
from headrace.contrib.crf.likelihood import (
    crf_binary_score as crf_binary_score,
)
from headrace.contrib.crf.likelihood import (
    crf_log_likelihood as crf_log_likelihood,
)
from headrace.contrib.crf.likelihood import (
    crf_log_norm as crf_log_norm,
)
from headrace.contrib.crf.likelihood import (
    crf_multitag_sequence_score as crf_multitag_sequence_score,
)
from headrace.contrib.crf.likelihood import (
    crf_sequence_score as crf_sequence_score,
)
from headrace.contrib.crf.likelihood import (
    crf_unary_score as crf_unary_score,
)
