"""`tf.contrib.seq2seq`: decoders that run a cell in a loop, what feeds them, attention, beam search, the loss."""

from headrace.contrib.seq2seq.attention import (
    AttentionMechanism as AttentionMechanism,
)
from headrace.contrib.seq2seq.attention import (
    BahdanauAttention as BahdanauAttention,
)
from headrace.contrib.seq2seq.attention import (
    BahdanauMonotonicAttention as BahdanauMonotonicAttention,
)
from headrace.contrib.seq2seq.attention import (
    LuongAttention as LuongAttention,
)
from headrace.contrib.seq2seq.attention import (
    LuongMonotonicAttention as LuongMonotonicAttention,
)
from headrace.contrib.seq2seq.attention import (
    hardmax as hardmax,
)
from headrace.contrib.seq2seq.attention import (
    monotonic_attention as monotonic_attention,
)
from headrace.contrib.seq2seq.attention import (
    safe_cumprod as safe_cumprod,
)
from headrace.contrib.seq2seq.attention_wrapper import (
    AttentionWrapper as AttentionWrapper,
)
from headrace.contrib.seq2seq.attention_wrapper import (
    AttentionWrapperState as AttentionWrapperState,
)
from headrace.contrib.seq2seq.basic_decoder import (
    BasicDecoder as BasicDecoder,
)
from headrace.contrib.seq2seq.basic_decoder import (
    BasicDecoderOutput as BasicDecoderOutput,
)
from headrace.contrib.seq2seq.beam_search import (
    BeamSearchDecoder as BeamSearchDecoder,
)
from headrace.contrib.seq2seq.beam_search import (
    BeamSearchDecoderOutput as BeamSearchDecoderOutput,
)
from headrace.contrib.seq2seq.beam_search import (
    BeamSearchDecoderState as BeamSearchDecoderState,
)
from headrace.contrib.seq2seq.beam_search import (
    FinalBeamSearchDecoderOutput as FinalBeamSearchDecoderOutput,
)
from headrace.contrib.seq2seq.beam_search import (
    tile_batch as tile_batch,
)
from headrace.contrib.seq2seq.decoder import (
    Decoder as Decoder,
)
from headrace.contrib.seq2seq.decoder import (
    dynamic_decode as dynamic_decode,
)
from headrace.contrib.seq2seq.gather_tree import (
    gather_tree as gather_tree,
)
from headrace.contrib.seq2seq.gather_tree import (
    gather_tree_from_array as gather_tree_from_array,
)
from headrace.contrib.seq2seq.helper import (
    CustomHelper as CustomHelper,
)
from headrace.contrib.seq2seq.helper import (
    GreedyEmbeddingHelper as GreedyEmbeddingHelper,
)
from headrace.contrib.seq2seq.helper import (
    Helper as Helper,
)
from headrace.contrib.seq2seq.helper import (
    InferenceHelper as InferenceHelper,
)
from headrace.contrib.seq2seq.helper import (
    SampleEmbeddingHelper as SampleEmbeddingHelper,
)
from headrace.contrib.seq2seq.helper import (
    ScheduledEmbeddingTrainingHelper as ScheduledEmbeddingTrainingHelper,
)
from headrace.contrib.seq2seq.helper import (
    ScheduledOutputTrainingHelper as ScheduledOutputTrainingHelper,
)
from headrace.contrib.seq2seq.helper import (
    TrainingHelper as TrainingHelper,
)
from headrace.contrib.seq2seq.loss import (
    sequence_loss as sequence_loss,
)
