"""The recurrent networks of cuDNN, on any device: forward, backward, and the conversions of their parameters.

The maths and the layout of the parameters are in `lowering/recurrent.py`.
"""

from __future__ import annotations

import os
from functools import partial

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define, lookup
from headrace.lowering import philox, random, recurrent
from headrace.lowering.recurrent import Network

_TYPE = "T: {half, float, double}"
_MODE = "rnn_mode: {'rnn_relu', 'rnn_tanh', 'lstm', 'gru'} = 'lstm'"
_KIND = (
    f"{_MODE}, input_mode: {{'linear_input', 'skip_input', 'auto_select'}} = 'linear_input', "
    "direction: {'unidirectional', 'bidirectional'} = 'unidirectional', "
    "dropout: float = 0.0, seed: int = 0, seed2: int = 0"
)


def _signature(op):
    return lookup(op.type).signature


def _projection(op) -> int:
    return op.attr("num_proj") if "num_proj" in _signature(op).attrs else 0


def _network(op, layers: int, units: int, input_size: int) -> Network:
    """The network that an op's attrs and the sizes describe. Raises InvalidArgumentError: sizes that do not fit."""
    projection = _projection(op)
    if projection and (op.attr("rnn_mode") != "lstm" or projection > units):
        raise op.invalid(
            f"num_proj = {projection} needs rnn_mode 'lstm' and at least as many units; got rnn_mode "
            f"{op.attr('rnn_mode')!r} and {units} units"
        )
    mode = op.attr("input_mode")
    skips = mode == "skip_input" or (mode == "auto_select" and input_size == units)
    if mode == "skip_input" and (input_size != units or projection):
        raise op.invalid(
            f"input_mode 'skip_input' needs an input of {units} units and no projection, "
            f"got an input of {input_size}"
        )
    return Network(
        op.attr("rnn_mode"),
        layers,
        2 if op.attr("direction") == "bidirectional" else 1,
        input_size,
        units,
        projection,
        skips and not projection,
    )


# ---- CudnnRNN, CudnnRNNV2, CudnnRNNV3

_INPUTS = "input: T, input_h: T, input_c: T, params: T"
_OUTPUTS = "output: T, output_h: T, output_c: T, reserve_space: T"


def _forward_shapes(op, input, h, c, params, *lengths):
    input, h = shapes.with_rank(op, input, 3, "input"), shapes.with_rank(op, h, 3, "input_h")
    shapes.with_rank(op, params, 1, "params")
    is_lstm = op.attr("rnn_mode") == "lstm"
    if lengths:
        shapes.with_rank(op, lengths[0], 1, "sequence_lengths")
        c = shapes.with_rank(op, c, 3, "input_c") if is_lstm else c
    else:
        c = h
    directions = 2 if op.attr("direction") == "bidirectional" else 1
    units = None if h[2] is None else directions * h[2]
    found = [(*input[:2], units), h, c if is_lstm else (), None]
    return found if len(_signature(op).outputs) == 4 else [*found, None]


def _network_of(op, input, h, c, params) -> Network:
    """The network of a run, with time first. Raises InvalidArgumentError: shapes that do not fit."""
    if input.ndim != 3 or h.ndim != 3:
        raise op.invalid(
            f"RNN input and input_h must be 3-D, got shapes {input.shape} and {h.shape}"
        )
    directions = 2 if op.attr("direction") == "bidirectional" else 1
    is_lstm = op.attr("rnn_mode") == "lstm"
    if h.shape[0] % directions or h.shape[1] != input.shape[1]:
        raise op.invalid(f"Invalid input_h shape: {h.shape} for an input of shape {input.shape}")
    if is_lstm and (c.ndim != 3 or c.shape[:2] != h.shape[:2]):
        raise op.invalid(f"input_h and input_c must have the same shape: {h.shape} {c.shape}")
    units = c.shape[2] if is_lstm else h.shape[2]
    network = _network(op, h.shape[0] // directions, units, input.shape[2])
    if network.output_size != h.shape[2]:
        what = "Invalid input_h and input_c w/ projection size" if network.projection else None
        raise op.invalid(
            f"{what or 'input_h and input_c must have the same shape w/o projection'}: "
            f"{network.projection} {h.shape} {c.shape}"
        )
    if params.shape != (network.size,):
        raise op.invalid(
            f"params must have shape ({network.size},) for {network.layers} layers of {units} "
            f"units on inputs of {input.shape[2]}, got {params.shape}"
        )
    return network


def _time_first(op):
    """A function that swaps batch and time where the op has the batch first; its own inverse."""
    if "time_major" not in _signature(op).attrs or op.attr("time_major"):
        return lambda x: x
    return lambda x: jnp.swapaxes(x, 0, 1) if x.ndim == 3 else x


def _computed(op, *values):
    """The values in the type to compute with: float32 for half precision, as cuDNN does."""
    dtype = jnp.promote_types(op.output_dtype(0).np_dtype, np.float32)
    return [jnp.asarray(v).astype(dtype) for v in values]


def _drops(op, layers: int) -> bool:
    return op.attr("dropout") > 0 and layers > 1


def _masks(op, rng, network, input):
    """What the outputs of each layer but the last are multiplied by; None where nothing is dropped."""
    # TensorFlow's switch for gradient checks: each run draws the same numbers.
    again = os.environ.get("TF_CUDNN_RESET_RND_GEN_STATE", "").lower() in ("1", "true")
    state, masks, rate = _first_state(op) if again else rng.read(), None, op.attr("dropout")
    if op.attr("is_training") and _drops(op, network.layers):
        size = network.directions * network.output_size
        shape = (network.layers - 1, *input.shape[:2], size)
        draw, state = random.uniform(state, shape, np.float32)
        masks = jnp.where(draw >= rate, 1 / (1 - rate) if rate < 1 else 0, 0).astype(input.dtype)
    rng.write(state)
    return masks


def _forward(op, rng, input, h, c, params, lengths=None):
    dtype, swap = op.output_dtype(0).np_dtype, _time_first(op)
    input, h, c, params = _computed(op, input, h, c, params)
    input, h, c = swap(input), swap(h), swap(c)
    network = _network_of(op, input, h, c, params)
    masks = _masks(op, rng, network, input)
    output, last_h, last_c, reserve = recurrent.run(network, input, h, c, params, lengths, masks)
    if last_c is None:
        last_c = jnp.zeros((), input.dtype)
    if not op.attr("is_training"):
        reserve = jnp.zeros((), input.dtype)
    results = [swap(output), swap(last_h), swap(last_c), reserve]
    results = [value.astype(dtype) for value in results]
    if len(_signature(op).outputs) == 5:
        results.append(np.zeros(0, np.int8))  # cuDNN's choice of an algorithm: there is none here
    return tuple(results)


def _first_state(op):
    return philox.initial_state(op.attr("seed"), op.attr("seed2"))


def _forward_gradient(op, *grads):
    if not op.attr("is_training"):
        raise ValueError(f"To use {op.type} in gradients, is_training must be set to True.")
    names = set(_signature(op).attrs) - {"T", "is_training"}
    attrs = {name: op.attr(name) for name in names}
    results = [*op.outputs[:3]]
    dys = [raw.ZerosLike(y) if dy is None else dy for y, dy in zip(results, grads[:3], strict=True)]
    backward = getattr(raw, op.type.replace("CudnnRNN", "CudnnRNNBackprop"))
    found = backward(*op.inputs, *results, *dys, *op.outputs[3:], **attrs)
    return (*found, None) if len(op.inputs) == 5 else tuple(found)


# ---- CudnnRNNBackprop, CudnnRNNBackpropV2, CudnnRNNBackpropV3


def _backward(op, *values):
    has_lengths = len(_signature(op).inputs) == 13
    lengths = values[4] if has_lengths else None
    dtype, swap = op.output_dtype(0).np_dtype, _time_first(op)
    after = values[5:] if has_lengths else values[4:]
    output, _, _, doutput, dh, dc, reserve = _computed(op, *after[:7])
    input, h, c, params = _computed(op, *values[:4])
    c_shape = c.shape
    input, h, c = swap(input), swap(h), swap(c)
    network = _network_of(op, input, h, c, params)
    if reserve.ndim != 3:
        raise op.invalid(
            f"reserve_space has shape {reserve.shape}: it is not that of a run with is_training=True"
        )
    found = recurrent.run_back(
        network,
        input,
        h,
        c,
        params,
        lengths,
        swap(output),
        reserve,
        swap(doutput),
        swap(dh),
        swap(dc),
        _drops(op, network.layers),
    )
    dinput, dh, dc, dparams = found
    dc = jnp.zeros(c_shape, input.dtype) if dc is None else swap(dc)
    return tuple(x.astype(dtype) for x in (swap(dinput), swap(dh), dc, dparams))


def _backward_gradient(op, *grads):
    raise LookupError(
        f"No gradient defined for operation '{op.name}' (op type: {op.type}){op._site_line()}"
    )


def _define_network(version: str, lengths: str, forward_attrs: str, backward_attrs: str) -> None:
    extra = ", host_reserved: int8" if version else ""
    forward = define(
        f"CudnnRNN{version}",
        f"{_INPUTS}{lengths} -> {_OUTPUTS}{extra}",
        f"{_TYPE}, {_KIND}{forward_attrs}",
        effects=Effect.STATEFUL | Effect.RANDOM,
    )
    forward.shape(_forward_shapes)
    forward.lower(_forward)
    forward.initial_state(_first_state)
    forward.gradient(_forward_gradient)
    backward = define(
        f"CudnnRNNBackprop{version}",
        f"{_INPUTS}{lengths}, output: T, output_h: T, output_c: T, output_backprop: T, output_h_backprop: T, "
        f"output_c_backprop: T, reserve_space: T{extra} -> "
        "input_backprop: T, input_h_backprop: T, input_c_backprop: T, params_backprop: T",
        f"{_TYPE}, {_KIND}{backward_attrs}",
        effects=Effect.STATEFUL,
    )
    backward.shape(lambda op, *dims: list(dims[:4]))
    backward.lower(_backward)
    backward.gradient(_backward_gradient)


_define_network("", "", ", is_training: bool = true", "")
_define_network("V2", "", ", is_training: bool = true", "")
_define_network(
    "V3",
    ", sequence_lengths: int32",
    ", num_proj: int = 0, is_training: bool = true, time_major: bool = true",
    ", num_proj: int = 0, time_major: bool = true",
)

# ---- CudnnRNNParamsSize

_SIZES = "num_layers: int32, num_units: int32, input_size: int32"
_SIZE_NAMES = ("num_layers", "num_units", "input_size")


def _check_sizes(op, sizes):
    for dims, name in zip(sizes, _SIZE_NAMES, strict=True):
        shapes.with_rank(op, dims, 0, name)


def _network_from(op, *sizes) -> Network:
    for value, name in zip(sizes, _SIZE_NAMES, strict=True):
        if np.ndim(value) or int(value) < 1:
            raise op.invalid(f"{name} must be a scalar of at least 1, got {value}")
    return _network(op, *(int(value) for value in sizes))


params_size = define(
    "CudnnRNNParamsSize",
    f"{_SIZES} -> params_size: S",
    f"{_TYPE}, S: {{int32, int64}}, {_KIND}, num_proj: int = 0",
    static_inputs=_SIZE_NAMES,
)


@params_size.shape
def _params_size_shape(op, *sizes):
    _check_sizes(op, sizes)
    return (1,)


@params_size.lower
@params_size.host
def _params_size_host(op, *sizes: np.ndarray):
    return np.array([_network_from(op, *sizes).size], op.output_dtype(0).np_dtype)


params_size.not_differentiable()

# ---- CudnnRNNParamsToCanonical, CudnnRNNCanonicalToParams, and V2 of both


def _known_network(op):
    sizes = [op.static(i) for i in range(3)]
    return None if any(size is None for size in sizes) else _network_from(op, *sizes)


def _to_canonical_shapes(op, *dims, weights: str, biases: str):
    _check_sizes(op, dims[:3])
    shapes.with_rank(op, dims[3], 1, "params")
    network = _known_network(op)
    weight_count, bias_count = op.attr(weights), op.attr(biases)
    if network is not None and (weight_count, bias_count) == _counts(network):
        found = [shape for _, shape in network.weight_slices]
        return [*found, *[(network.units,)] * bias_count]
    return [(None, None)] * weight_count + [(None,)] * bias_count


def _counts(network):
    return len(network.weight_slices), network.bias_count


def _check_counts(op, network, weights: int, biases: int):
    if (weights, biases) != _counts(network):
        wanted = _counts(network)
        raise op.invalid(
            f"Number of params mismatch: {network.layers} layers of {op.attr('rnn_mode')!r}, "
            f"{op.attr('direction')}, have {wanted[0]} weights and {wanted[1]} biases; got {weights} and {biases}"
        )


def _to_canonical(op, *values, weights: str, biases: str):
    network, params = _network_from(op, *values[:3]), values[3]
    _check_counts(op, network, op.attr(weights), op.attr(biases))
    if params.shape != (network.size,):
        raise op.invalid(f"params must have shape ({network.size},), got {params.shape}")
    found = recurrent.to_canonical(network, params)
    return tuple([*found[0], *found[1]])


def _to_params_shape(op, *dims):
    _check_sizes(op, dims[:3])
    network = _known_network(op)
    return (None if network is None else network.size,)


def _to_params(op, num_layers, num_units, input_size, weights, biases):
    network = _network_from(op, num_layers, num_units, input_size)
    _check_counts(op, network, len(weights), len(biases))
    wanted = [(w, shape) for w, (_, shape) in zip(weights, network.weight_slices, strict=True)]
    wanted += [(b, (network.units,)) for b in biases]
    for i, (value, shape) in enumerate(wanted):
        if value.size != int(np.prod(shape)):
            raise op.invalid(
                f"parameter {i} must have {int(np.prod(shape))} elements ({shape}), got shape {value.shape}"
            )
    return recurrent.to_params(network, weights, biases)


def _to_canonical_gradient(op, *grads):
    dys = [raw.ZerosLike(y) if dy is None else dy for y, dy in zip(op.outputs, grads, strict=True)]
    count = len(dys) - op.attr(_bias_attr(op))
    attrs = {name: op.attr(name) for name in _kind_names(op)}
    back = getattr(raw, op.type.replace("ParamsToCanonical", "CanonicalToParams"))
    return None, None, None, back(*op.inputs[:3], dys[:count], dys[count:], **attrs)


def _to_params_gradient(op, dy):
    weights, biases = _weight_attr(op), _bias_attr(op)
    attrs = {name: op.attr(name) for name in {*_kind_names(op), weights, biases}}
    forth = getattr(raw, op.type.replace("CanonicalToParams", "ParamsToCanonical"))
    found = forth(*op.inputs[:3], dy, **attrs)
    return None, None, None, *found[0], *found[1]


def _weight_attr(op):
    return "num_params_weights" if op.type.endswith("V2") else "num_params"


def _bias_attr(op):
    return "num_params_biases" if op.type.endswith("V2") else "num_params"


def _kind_names(op):
    return [n for n in _signature(op).attrs if n != "T" and not n.startswith("num_par")]


def _define_conversions(version: str, weights: str, biases: str) -> None:
    counts = ", ".join(f"{n}: int >= 1" for n in dict.fromkeys((weights, biases)))
    projection = ", num_proj: int = 0" if version else ""
    parts = f"weights: {weights}*T, biases: {biases}*T"
    attrs = f"{_TYPE}, {counts}, {_KIND}{projection}"
    to_canonical = define(
        f"CudnnRNNParamsToCanonical{version}",
        f"{_SIZES}, params: T -> {parts}",
        attrs,
        static_inputs=_SIZE_NAMES,
    )
    to_canonical.shape(partial(_to_canonical_shapes, weights=weights, biases=biases))
    rule = partial(_to_canonical, weights=weights, biases=biases)
    to_canonical.lower(rule)
    to_canonical.host(rule)
    to_canonical.gradient(_to_canonical_gradient)
    to_params = define(
        f"CudnnRNNCanonicalToParams{version}",
        f"{_SIZES}, {parts} -> params: T",
        attrs,
        static_inputs=_SIZE_NAMES,
    )
    to_params.shape(_to_params_shape)
    to_params.lower(_to_params)
    to_params.host(_to_params)
    to_params.gradient(_to_params_gradient)


_define_conversions("", "num_params", "num_params")
_define_conversions("V2", "num_params_weights", "num_params_biases")
