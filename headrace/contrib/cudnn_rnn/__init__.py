"""`tf.contrib.cudnn_rnn`: recurrent networks as cuDNN defines them, on any device, and cells that share their checkpoints.

Not here, as in TensorFlow: the ops themselves (`tf.raw_ops.CudnnRNN`, ...).
"""

from headrace.contrib.cudnn_rnn.cells import (
    CudnnCompatibleGRUCell as CudnnCompatibleGRUCell,
)
from headrace.contrib.cudnn_rnn.cells import (
    CudnnCompatibleLSTMCell as CudnnCompatibleLSTMCell,
)
from headrace.contrib.cudnn_rnn.converters import (
    CudnnParamsFormatConverterGRU as CudnnParamsFormatConverterGRU,
)
from headrace.contrib.cudnn_rnn.converters import (
    CudnnParamsFormatConverterLSTM as CudnnParamsFormatConverterLSTM,
)
from headrace.contrib.cudnn_rnn.converters import (
    CudnnParamsFormatConverterRelu as CudnnParamsFormatConverterRelu,
)
from headrace.contrib.cudnn_rnn.converters import (
    CudnnParamsFormatConverterTanh as CudnnParamsFormatConverterTanh,
)
from headrace.contrib.cudnn_rnn.layers import (
    CudnnGRU as CudnnGRU,
)
from headrace.contrib.cudnn_rnn.layers import (
    CudnnLSTM as CudnnLSTM,
)
from headrace.contrib.cudnn_rnn.layers import (
    CudnnRNNRelu as CudnnRNNRelu,
)
from headrace.contrib.cudnn_rnn.layers import (
    CudnnRNNTanh as CudnnRNNTanh,
)
from headrace.contrib.cudnn_rnn.saveables import (
    CudnnGRUSaveable as CudnnGRUSaveable,
)
from headrace.contrib.cudnn_rnn.saveables import (
    CudnnLSTMSaveable as CudnnLSTMSaveable,
)
from headrace.contrib.cudnn_rnn.saveables import (
    CudnnRNNReluSaveable as CudnnRNNReluSaveable,
)
from headrace.contrib.cudnn_rnn.saveables import (
    CudnnRNNTanhSaveable as CudnnRNNTanhSaveable,
)
