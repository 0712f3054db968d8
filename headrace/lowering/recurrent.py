"""Stacked recurrent networks on whole sequences, as cuDNN defines them: the layout of their parameters, runs, gradients.

What does not depend on the state before it is one matrix product over all times; only the recurrent product is in the
loop. The backward loop computes the gradients of the gates alone: those of weights and inputs are products after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace import native

GATES = {"lstm": 4, "gru": 3, "rnn_relu": 1, "rnn_tanh": 1}
"""How many matrices (and biases) each kind of cell has for its input, and again for its state, in cuDNN's order:

lstm: input, forget, new memory, output. gru: reset, update, new memory.
"""

# What a cell keeps of each step for its gradient, in widths of its units.
_KEPT = {"lstm": 5, "gru": 4, "rnn_relu": 0, "rnn_tanh": 0}


@dataclass(frozen=True)
class Network:
    """The sizes of a network. projection: the size that an LSTM's output is brought down to, 0 for none.

    skips_input: the first layer adds its input to each gate, instead of a product with it.
    """

    mode: str
    layers: int
    directions: int
    input_size: int
    units: int
    projection: int = 0
    skips_input: bool = False

    @property
    def output_size(self) -> int:
        """The size of what one direction of a layer gives out."""
        return self.projection or self.units

    def has_input_weights(self, layer: int) -> bool:
        """Whether the input of a layer goes through weights."""
        return layer > 0 or not self.skips_input

    def input_width(self, layer: int) -> int:
        """The size of what a layer takes."""
        return self.input_size if layer == 0 else self.directions * self.output_size

    def weight_shapes(self, layer: int) -> list[tuple[int, int]]:
        """The shapes of the weights of one direction of a layer: of input, of state, of projection."""
        gates = GATES[self.mode]
        shapes = [(self.units, self.input_width(layer))] * gates
        shapes += [(self.units, self.output_size)] * gates
        return shapes + ([(self.projection, self.units)] if self.projection else [])

    @cached_property
    def weight_slices(self) -> list[tuple[slice | None, tuple[int, int]]]:
        """Where each weight lies among the parameters (None: nowhere, it is skipped), with its shape."""
        found: list[tuple[slice | None, tuple[int, int]]] = []
        at = 0
        for layer in range(self.layers):
            for _ in range(self.directions):
                for i, shape in enumerate(self.weight_shapes(layer)):
                    if i < GATES[self.mode] and not self.has_input_weights(layer):
                        found.append((None, shape))
                        continue
                    found.append((slice(at, at + prod(shape)), shape))
                    at += prod(shape)
        return found

    @property
    def weight_count(self) -> int:
        """How many parameters are weights; the biases follow them."""
        return max((s.stop for s, _ in self.weight_slices if s is not None), default=0)

    @property
    def bias_count(self) -> int:
        """How many biases there are, each a vector of `units`."""
        return 2 * GATES[self.mode] * self.layers * self.directions

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return self.weight_count + self.bias_count * self.units

    def parameters(self, params: Any) -> Iterator[_Cell]:
        """The parameters of each direction of each layer, in order."""
        gates, units = GATES[self.mode], self.units
        per_cell = len(self.weight_shapes(0))
        biases = params[self.weight_count :].reshape(-1, 2, gates * units)
        for cell in range(self.layers * self.directions):
            slices = self.weight_slices[cell * per_cell : (cell + 1) * per_cell]
            blocks: list[Any] = []
            for part in (slices[:gates], slices[gates : 2 * gates], slices[2 * gates :]):
                if not part or part[0][0] is None:
                    blocks.append(None)
                    continue
                start, stop = part[0][0].start, part[-1][0].stop  # type: ignore[union-attr]
                blocks.append(params[start:stop].reshape(-1, part[0][1][1]))
            yield _Cell(self.mode, units, *blocks, *biases[cell])


@dataclass(frozen=True)
class _Cell:
    """One direction of one layer. weights: [gates * units, input], recurrent: [gates * units, output]."""

    mode: str
    units: int
    weights: Any
    recurrent: Any
    projection: Any
    input_bias: Any
    recurrent_bias: Any

    def from_input(self, xs: Any) -> Any:
        """What the input alone gives to the gates, at all times. xs: [time, batch, input]."""
        gates = GATES[self.mode]
        product = (
            jnp.tile(xs, gates)
            if self.weights is None
            else _at_all_times(xs, self.weights, transpose=True)
        )
        bias = self.input_bias
        # The new memory of a GRU multiplies what comes of its state by the reset gate, bias included.
        return product + (bias if self.mode == "gru" else bias + self.recurrent_bias)

    def step(self, state: tuple, gates: Any) -> tuple[tuple, Any]:
        """The next state, and what the gradient needs of this step. state: (h, c), or (h,)."""
        units, h = self.units, state[0]
        product = _in_step(h, self.recurrent, transpose=True)
        if self.mode == "lstm":
            i, f, g, o = _parts(gates + product, units)
            i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
            c = f * state[1] + i * g
            m = o * jnp.tanh(c)
            if self.projection is not None:
                m = _in_step(m, self.projection, transpose=True)
            return (m, c), (i, f, g, o)
        if self.mode == "gru":
            product = product + self.recurrent_bias
            r, u = _parts(jax.nn.sigmoid((gates + product)[:, : 2 * units]), units)
            q = product[:, 2 * units :]
            n = jnp.tanh(gates[:, 2 * units :] + r * q)
            return ((1 - u) * n + u * h,), (r, u, n, q)
        activation = jnp.tanh if self.mode == "rnn_tanh" else jax.nn.relu
        return (activation(gates + product),), ()

    def step_back(
        self, dstate: tuple, kept: Any, out: Any, h_before: Any, c_before: Any
    ) -> tuple[tuple, Any]:
        """The gradients of the state before a step, and those of what the step added up for its gates.

        dstate: the gradients of the state after it. kept: as `step` gave it, and c. out: h after the step.
        """
        dh = dstate[0]
        if self.mode == "lstm":
            i, f, g, o, c = _parts(kept, self.units)
            dm = dh if self.projection is None else _in_step(dh, self.projection)
            bent = jnp.tanh(c)
            dc = dstate[1] + dm * o * (1 - bent * bent)
            dgates = jnp.concatenate(
                [
                    dc * g * i * (1 - i),
                    dc * c_before * f * (1 - f),
                    dc * i * (1 - g * g),
                    dm * bent * o * (1 - o),
                ],
                axis=1,
            )
            return (_in_step(dgates, self.recurrent), dc * f), dgates
        if self.mode == "gru":
            r, u, n, q = _parts(kept, self.units)
            dn = dh * (1 - u) * (1 - n * n)
            dr = dn * q * r * (1 - r)
            du = dh * (h_before - n) * u * (1 - u)
            product = jnp.concatenate([dr, du, dn * r], axis=1)
            before = dh * u + _in_step(product, self.recurrent)
            return (before,), jnp.concatenate([product, dn], axis=1)
        dgates = dh * (1 - out * out) if self.mode == "rnn_tanh" else jnp.where(out > 0, dh, 0)
        return (_in_step(dgates, self.recurrent),), dgates


def _in_step(x: Any, w: Any, transpose: bool = False) -> Any:
    """`x` [batch, n] times `w` (or its transpose), which is the same at all times."""
    return native.dot(x, w, transpose_b=transpose, b_is_invariant=True)


def _at_all_times(xs: Any, w: Any, transpose: bool = False) -> Any:
    """`xs` [time, batch, n] times `w` (or its transpose)."""
    product = native.dot(xs.reshape(-1, xs.shape[-1]), w, transpose_b=transpose)
    return product.reshape(*xs.shape[:-1], -1)


def _parts(x: Any, units: int) -> list[Any]:
    return [x[..., k : k + units] for k in range(0, x.shape[-1], units)]


def _within(lengths: Any, times: int) -> Any:
    """[time, batch, 1]: which elements belong to their sequence; None: all of them."""
    return None if lengths is None else (jnp.arange(times)[:, None] < lengths[None, :])[..., None]


def _run_cell(
    cell: _Cell, xs: Any, state: tuple, within: Any, backwards: bool
) -> tuple[Any, tuple, Any]:
    """(outputs, last state, what the gradient needs) of one direction of a layer."""

    def step(state: tuple, at: tuple) -> tuple[tuple, tuple]:
        gates, inside = at
        new, kept = cell.step(state, gates)
        out = new[0]
        if inside is not None:
            new = tuple(jnp.where(inside, a, b) for a, b in zip(new, state, strict=True))
            out = jnp.where(inside, out, 0)
        rows = [*kept, *new[1:]]
        return new, (out, jnp.concatenate(rows, axis=1) if rows else out[:, :0])

    last, (outputs, kept) = lax.scan(step, state, (cell.from_input(xs), within), reverse=backwards)
    return outputs, last, kept


def _before(values: Any, first: Any, within: Any, backwards: bool) -> Any:
    """The values of the step before each: `first` before the first one of each sequence."""
    if within is not None:
        values = jnp.where(within, values, first[None])
    if backwards:
        return jnp.concatenate([values[1:], first[None]])
    return jnp.concatenate([first[None], values[:-1]])


def _run_cell_back(
    cell: _Cell,
    xs: Any,
    state: tuple,
    within: Any,
    backwards: bool,
    outputs: Any,
    kept: Any,
    doutputs: Any,
    dlast: tuple,
) -> tuple[Any, tuple, list[Any]]:
    """(gradient of xs, of the first state, and of the parameters) of one direction of a layer."""
    h_before = _before(outputs, state[0], within, backwards)
    c_before = None
    if len(state) == 2:
        c_before = _before(kept[..., -cell.units :], state[1], within, backwards)

    def step(dstate: tuple, at: tuple) -> tuple[tuple, tuple]:
        kept, out, h_before, c_before, dout, inside = at
        dh = dstate[0] + (dout if inside is None else jnp.where(inside, dout, 0))
        before, dgates = cell.step_back((dh, *dstate[1:]), kept, out, h_before, c_before)
        if inside is not None:
            before = tuple(jnp.where(inside, a, b) for a, b in zip(before, dstate, strict=True))
            dgates, dh = jnp.where(inside, dgates, 0), jnp.where(inside, dh, 0)
        return before, (dgates, dh if cell.projection is not None else dh[:, :0])

    at = (kept, outputs, h_before, c_before, doutputs, within)
    dstate, (dgates, dhs) = lax.scan(step, dlast, at, reverse=not backwards)

    from_state = dgates[..., : GATES[cell.mode] * cell.units]
    from_input = dgates
    if cell.mode == "gru":
        from_input = jnp.concatenate(
            [dgates[..., : 2 * cell.units], dgates[..., 3 * cell.units :]], axis=2
        )
    gradients = []
    if cell.weights is None:
        dxs = sum(_parts(from_input, cell.units))
    else:
        dxs = _at_all_times(from_input, cell.weights)
        gradients.append(_over_time(from_input, xs))
    gradients.append(_over_time(from_state, h_before))
    if cell.projection is not None:
        _, _, _, o, c = _parts(kept, cell.units)
        gradients.append(_over_time(dhs, o * jnp.tanh(c)))
    biases = [jnp.sum(from_input, (0, 1)), jnp.sum(from_state, (0, 1))]
    return dxs, dstate, [gradients, biases]


def _over_time(dys: Any, xs: Any) -> Any:
    """The gradient of a matrix w in xs w', summed over times and batch."""
    rows = (x.reshape(-1, x.shape[-1]) for x in (dys, xs))
    return native.dot(*rows, transpose_a=True)


def _first_states(network: Network, h: Any, c: Any) -> list[tuple]:
    count = network.layers * network.directions
    return [(h[k], c[k]) if network.mode == "lstm" else (h[k],) for k in range(count)]


def run(
    network: Network, xs: Any, h: Any, c: Any, params: Any, lengths: Any, masks: Any
) -> tuple[Any, Any, Any, Any]:
    """(outputs, last h, last c or None, what `run_back` needs) of a network on sequences.

    xs: [time, batch, input]. h, c: [layers * directions, batch, size], c of LSTMs only. lengths: [batch] or None; outputs
    behind the end of a sequence are 0, and its last state is that at its end. masks: what the outputs of each layer but
    the last are multiplied by (dropout), or None.
    """
    within = _within(lengths, xs.shape[0])
    states = _first_states(network, h, c)
    last: list[tuple] = []
    reserve: list[Any] = []
    cells = list(network.parameters(params))
    for layer in range(network.layers):
        outputs = []
        for direction in range(network.directions):
            k = layer * network.directions + direction
            out, end, kept = _run_cell(cells[k], xs, states[k], within, direction == 1)
            outputs.append(out)
            last.append(end)
            reserve.append(kept)
        xs = jnp.concatenate(outputs, axis=2) if len(outputs) > 1 else outputs[0]
        if layer < network.layers - 1:
            reserve.append(xs)
            if masks is not None:
                reserve.append(masks[layer])
                xs = xs * masks[layer]
    last_h = jnp.stack([end[0] for end in last])
    last_c = jnp.stack([end[1] for end in last]) if network.mode == "lstm" else None
    return xs, last_h, last_c, jnp.concatenate(reserve, axis=2)


def run_back(
    network: Network,
    xs: Any,
    h: Any,
    c: Any,
    params: Any,
    lengths: Any,
    outputs: Any,
    reserve: Any,
    doutputs: Any,
    dh: Any,
    dc: Any,
    has_masks: bool,
) -> tuple[Any, Any, Any, Any]:
    """The gradients of xs, h, c (None without one) and params of `run`, from those of what it gave."""
    within = _within(lengths, xs.shape[0])
    states, dlast = _first_states(network, h, c), _first_states(network, dh, dc)
    cells = list(network.parameters(params))
    directions, size = network.directions, network.output_size
    inputs, layer_outputs, masks, kept = _unpacked(network, xs, outputs, reserve, has_masks)
    dstates: list[Any] = [None] * len(cells)
    dparams: list[Any] = [None] * len(cells)
    for layer in reversed(range(network.layers)):
        total = None
        for direction in range(directions):
            k = layer * directions + direction
            mine = slice(direction * size, (direction + 1) * size)
            dxs, dstates[k], dparams[k] = _run_cell_back(
                cells[k],
                inputs[layer],
                states[k],
                within,
                direction == 1,
                layer_outputs[layer][..., mine],
                kept[k],
                doutputs[..., mine],
                dlast[k],
            )
            total = dxs if total is None else total + dxs
        doutputs = total
        if layer > 0 and has_masks:
            doutputs = doutputs * masks[layer - 1]
    flat = [w.reshape(-1) for weights, _ in dparams for w in weights]
    flat += [b for _, biases in dparams for b in biases]
    first_h = jnp.stack([d[0] for d in dstates])
    first_c = jnp.stack([d[1] for d in dstates]) if network.mode == "lstm" else None
    return doutputs, first_h, first_c, jnp.concatenate(flat)


def _unpacked(
    network: Network, xs: Any, outputs: Any, reserve: Any, has_masks: bool
) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """(inputs of each layer, outputs of each layer, masks, what each cell kept) from what `run` put aside."""
    inputs, layer_outputs, masks, kept, at = [xs], [], [], [], 0

    def take(width: int) -> Any:
        nonlocal at
        at += width
        return reserve[..., at - width : at]

    for layer in range(network.layers):
        kept += [take(_KEPT[network.mode] * network.units) for _ in range(network.directions)]
        if layer == network.layers - 1:
            layer_outputs.append(outputs)
            break
        out = take(network.directions * network.output_size)
        layer_outputs.append(out)
        if has_masks:
            masks.append(take(out.shape[-1]))
            out = out * masks[-1]
        inputs.append(out)
    return inputs, layer_outputs, masks, kept


def to_canonical(network: Network, params: Any) -> tuple[list[Any], list[Any]]:
    """The weights (matrices) and the biases (vectors) one by one; a skipped weight is the identity."""
    weights: list[Any] = []
    for where, shape in network.weight_slices:
        if where is None:
            weights.append(np.eye(*shape, dtype=params.dtype))
        else:
            weights.append(params[where].reshape(shape))
    biases = params[network.weight_count :].reshape(network.bias_count, network.units)
    return weights, list(biases)


def to_params(network: Network, weights: list[Any], biases: list[Any]) -> Any:
    """The parameters as one vector; weights that are skipped are left out."""
    kept = [
        w for w, (where, _) in zip(weights, network.weight_slices, strict=True) if where is not None
    ]
    values = [*kept, *biases]
    numpy = all(isinstance(v, np.ndarray) for v in values)
    namespace = np if numpy else jnp
    return namespace.concatenate([v.reshape(-1) for v in values])
