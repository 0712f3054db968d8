"""Random programs of replicas: arithmetic, sums over them, variables of every aggregation, branches, loops, the host."""

import random

import numpy as np

ROWS, COLUMNS = 2, 3


class Replica:
    """Builds the function of one replica; every replica draws the same operations."""

    def __init__(self, tf, seed, variables, on_read, scalar):
        self.tf, self.draw = tf, random.Random(seed)
        self.variables, self.on_read, self.scalar = variables, on_read, scalar
        self.writes = []

    def __call__(self, share):
        tf = self.tf
        self.context = tf.distribute.get_replica_context()
        self.number = self.context.replica_id_in_sync_group
        self.values = [share, share + tf.cast(self.number, tf.float32), tf.fill([2, 3], 0.3)]
        makers = [getattr(self, name) for name in dir(self) if name.startswith("make_")]
        for _ in range(self.draw.randint(8, 20)):
            self.draw.choice(makers)()
        mean = tf.reduce_mean(tf.tanh(self.values[-1])) * 0.1
        self.writes.append(self.scalar.assign_add(mean))
        return [tf.identity(v) for v in self.values[-3:]], self.writes

    def pick(self):
        return self.draw.choice(self.values)

    def make_arithmetic(self):
        a, b = self.pick(), self.pick()
        self.values.append(self.draw.choice([a * b * 0.5, a - b, self.tf.tanh(a) * self.scalar]))

    def make_sum_over_replicas(self):
        op = self.draw.choice(list(self.tf.distribute.ReduceOp))
        self.values.append(self.context.all_reduce(op, self.tf.tanh(self.pick())))

    def make_read(self):
        self.values.append(self.draw.choice(self.variables).value() + self.pick())
        self.values.append(self.draw.choice(self.on_read).read_value() * self.pick())

    def make_write(self):
        variable, value = self.draw.choice(self.variables), self.tf.tanh(self.pick())
        how = self.draw.choice(["assign", "assign_add", "assign_sub"])
        self.writes.append(getattr(variable, how)(value))

    def make_write_of_its_own(self):
        self.writes.append(self.draw.choice(self.on_read).assign_add(self.tf.tanh(self.pick())))

    def make_noise(self):
        self.values.append(self.pick() + self.tf.random_uniform([ROWS, COLUMNS]))

    def make_branch(self):
        a, b = self.pick(), self.pick()
        asked = self.tf.reduce_sum(a) > 0.5
        self.values.append(self.tf.cond(asked, lambda: a + b, lambda: self.tf.tanh(b)))

    def make_loop(self):
        tf, most, start = self.tf, self.number + 2, self.pick()
        body = (lambda i, v: i < most), (lambda i, v: (i + 1, tf.tanh(v) + 0.1))
        self.values.append(tf.while_loop(*body, [tf.constant(0), start])[1])

    def make_order(self):
        with self.tf.control_dependencies([self.values[-1]]):
            self.values.append(self.tf.identity(self.pick()) * 1.5)

    def make_rows(self):
        self.values.append(self.tf.gather(self.pick(), self.tf.stack([self.number % 2, 1])))

    def make_call(self):
        found = self.tf.py_func(lambda v: v * 2, [self.pick()], self.tf.float32)
        found.set_shape([ROWS, COLUMNS])
        self.values.append(self.tf.tanh(found))

    def make_gradient(self):
        aim = self.tf.reduce_sum(self.tf.tanh(self.values[-1]) * self.pick())
        (slope,) = self.tf.gradients(aim, self.values[0])
        self.values.append(self.values[0] if slope is None else slope)


def build(tf, seed, count):
    """(what is fed, what to run, the copies of the variables) of a random program of `count` replicas."""
    ways = (None, tf.distribute.NcclAllReduce(), tf.distribute.HierarchicalCopyAllReduce())
    devices = [f"/cpu:{i}" for i in range(count)]
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=ways[seed % 3])
    modes, on_read = tf.VariableAggregation, tf.VariableSynchronization.ON_READ
    x = tf.placeholder(tf.float32, [count * ROWS, COLUMNS])
    with strategy.scope():
        plain = [
            tf.Variable(tf.fill([ROWS, COLUMNS], 0.5), aggregation=mode)
            for mode in (modes.SUM, modes.MEAN, modes.ONLY_FIRST_REPLICA)
        ]
        own = [
            tf.Variable(tf.fill([ROWS, COLUMNS], 0.5), aggregation=mode, synchronization=on_read)
            for mode in (modes.SUM, modes.MEAN)
        ]
        scalar = tf.Variable(0.5, aggregation=modes.MEAN)
        shares = iter(tf.split(x, count))
        inputs = strategy.make_input_fn_iterator(lambda context: lambda: next(shares))
        outputs, writes = strategy.experimental_run(
            lambda share: Replica(tf, seed, plain, own, scalar)(share), inputs
        )
        shown = [strategy.experimental_local_results(v) for v in outputs]
        shown += [strategy.reduce(op, outputs[0]) for op in tf.distribute.ReduceOp]
        train = tf.group(*[strategy.group(w) for w in writes])
    return x, [shown, train], [v.values for v in (*plain, *own, scalar)]


def feed(count, step):
    """What is fed in a step."""
    return np.random.RandomState(step).randn(count * ROWS, COLUMNS)
