"""Random layered graphs with variables, over several devices: the material of the executor's tests."""

import numpy as np

import headrace as tf

SHAPE = [3, 3]
# Integers wrap around: whatever order and fusion a compiler chooses, the result is the same to the last bit.
UNARY = [tf.negative, lambda a: a * 3 - 1, lambda a: tf.reverse(a, [0]), tf.transpose]
BINARY = [tf.add, tf.subtract, tf.multiply, tf.maximum, tf.minimum, tf.matmul]


class Failure(Exception):
    """What an injected failure raises inside of a Python function."""


class LayeredDag:
    """A graph in layers on `devices` devices; at least `nodes` of its operations run in each step, constants not counted.

    x: what is fed. fetches: groups of tensors. ticket: counts the steps that have succeeded, 1 for the first. inject: fed to
    make an operation fail ("python", "gather") or take long ("sleep"), with `faults`.
    """

    def __init__(self, seed, nodes=500, devices=4, variables=10, faults=False, sleep=None):
        rng = np.random.RandomState(seed)
        self.graph = tf.Graph()
        self.sleep = sleep
        with self.graph.as_default():
            self.x = tf.placeholder(tf.int32, SHAPE, name="x")
            self.index = tf.placeholder(tf.int32, [], name="index")
            self.mode = tf.placeholder(tf.int32, [], name="mode")

            def device():
                return tf.device(f"/cpu:{rng.randint(devices)}")

            with device():
                self.counter = tf.get_variable("counter", [], tf.int32, tf.zeros_initializer())
            self.variables = []
            for number in range(variables):
                with device():
                    initial = tf.constant(rng.randint(-9, 9, SHAPE), tf.int32)
                    resource = bool(rng.randint(2))
                    self.variables.append(
                        tf.Variable(initial, name=f"v{number}", use_resource=resource)
                    )
            layers = [[self.x]]
            self.updates = []
            width = max(4, int(nodes**0.5))
            while len(layers) < 4 or self._running(layers) < nodes:
                pool = [t for layer in layers[-3:] for t in layer]
                layer = []
                for _ in range(width):
                    with device():
                        layer.append(self._node(rng, pool))
                layers.append(layer)
            if faults:
                with device():
                    # It runs before the session is locked: what it takes must not depend on variables.
                    first = tf.py_func(self._python, [self.x * 2, self.mode], tf.int32)
                    first.set_shape(SHAPE)
                with device():
                    second = tf.gather(tf.concat([layers[2][0]] * 2, 0), self.index + tf.range(3))
                layers[-1] += [first + 1, second]
            with device():
                last = [t for layer in layers[-2:] for t in layer]
                total = tf.add_n(last)
            self.variables.append(self.counter)
            # The ticket comes after everything: its order is the order of the steps.
            with device(), tf.control_dependencies([total, *self.updates]):
                self.ticket = tf.assign_add(self.counter, 1)
            self.fetches = [
                [self.ticket, total, *layers[-1][:4], *self.updates],
                [self.ticket, *layers[len(layers) // 2][:3], *self.updates[::2]],
            ]
            self.init = tf.global_variables_initializer()

    def _running(self, layers):
        """How many operations run for the last layers and the updates, but for constants."""
        stack = [t.op for layer in layers[-2:] for t in layer] + [t.op for t in self.updates]
        seen = set(stack)
        while stack:
            op = stack.pop()
            sources = {*(t.op for t in op.inputs), *op.control_inputs} - seen
            seen |= sources
            stack += sources
        return sum(op.type != "Const" for op in seen)

    def _node(self, rng, pool):
        pick = lambda: pool[rng.randint(len(pool))]  # noqa: E731
        kind = rng.rand()
        if kind < 0.08:
            return self.variables[rng.randint(len(self.variables))] + pick()
        if kind < 0.14 and len(self.updates) < 2 * len(self.variables):
            v = self.variables[rng.randint(len(self.variables))]
            after = [pick().op] + self.updates[-1:]
            with tf.control_dependencies(after):
                update = rng.choice([tf.assign_add, tf.assign_sub])(v, pick())
                value = tf.identity(update)
            self.updates.append(value)
            return value
        if kind < 0.4:
            return UNARY[rng.randint(len(UNARY))](pick())
        return BINARY[rng.randint(len(BINARY))](pick(), pick())

    def _python(self, value, mode):
        if mode == 1:
            raise Failure("injected")
        if mode == 2:
            self.sleep()
        return value

    def feed(self, number, fault=None):
        """What is fed to step `number`; fault: None, "python", "gather" or "sleep"."""
        rng = np.random.RandomState(number)
        return {
            self.x: rng.randint(-1000, 1000, SHAPE),
            self.index: 99 if fault == "gather" else number % 3,
            self.mode: {"python": 1, "sleep": 2}.get(fault, 0),
        }


def session(dag, devices=None):
    """A session on the graph's devices, or on one; its variables are initialised."""
    config = tf.ConfigProto(
        device_count={"CPU": devices or 1}, allow_soft_placement=devices is None
    )
    sess = tf.Session(graph=dag.graph, config=config)
    sess.run(dag.init)
    return sess
