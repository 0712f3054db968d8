"""Programs with several results of branches and loops, for TensorFlow 1.15 and for Headrace: what runs when some are fetched."""


def _pairs(tf, p, x, y):
    first, second = tf.cond(p, lambda: (x + 1.0, y * 2.0), lambda: (x - 1.0, y * 3.0))
    return {"first": first, "second": second, "both": [first, second], "after": (first + 1.0) * x}


def _nested(tf, p, x, y):
    def inner():
        return tf.cond(x > 0.0, lambda: (x, y), lambda: (x * x, y * y))

    first, second = tf.cond(p, inner, lambda: (x + 5.0, y + 5.0))
    return {"first": first, "second": second}


def _loop(tf, p, x, y):
    i, u, v, w = tf.while_loop(
        lambda i, *_: i < 3,
        lambda i, u, v, w: (i + 1, u * x, v + u * y, w + v),
        [tf.constant(0), x, tf.constant(1.0), tf.constant(0.0)],
    )
    return {"i": i, "u": u, "v": v, "w": w}


def _branch_in_loop(tf, p, x, y):
    def body(i, u):
        c, _ = tf.cond(p, lambda: (u + x, y), lambda: (u - x, y * y))
        return i + 1, c

    i, u = tf.while_loop(lambda i, u: i < 3, body, [0, 1.0])
    return {"i": i, "u": u}


def _loop_in_branch(tf, p, x, y):
    def repeated():
        _, u, v = tf.while_loop(
            lambda i, u, v: i < 2, lambda i, u, v: (i + 1, u * 2.0, v + y), [0, x, x]
        )
        return u, v

    u, v = tf.cond(p, repeated, lambda: (x, y))
    return {"u": u, "v": v}


def _arrays(tf, p, x, y):
    a, b = (tf.TensorArray(tf.float32, size=3, element_shape=[]) for _ in range(2))
    _, a, b = tf.while_loop(
        lambda i, a, b: i < 3,
        lambda i, a, b: (i + 1, a.write(i, x), b.write(i, y)),
        [0, a, b],
    )
    return {"a": a.stack(), "b": b.stack()}


def _cases(tf, p, x, y):
    first, second = tf.case(
        [(p, lambda: (x, y)), (x > 1.0, lambda: (x * 2.0, y * 2.0))],
        default=lambda: (x * 3.0, y * 3.0),
    )
    third, fourth = tf.switch_case(
        tf.cast(x, tf.int32), [lambda: (x, y), lambda: (x + 1.0, y + 1.0)], lambda: (x, x)
    )
    return {"first": first, "second": second, "third": third, "fourth": fourth}


def _gradients(tf, p, x, y):
    u, v = tf.cond(p, lambda: (x * x, y * y), lambda: (x, y))
    _, w, z = tf.while_loop(lambda i, w, z: i < 3, lambda i, w, z: (i + 1, w * x, z * y), [0, u, v])
    return {
        "u": tf.gradients(u, x)[0],
        "w": tf.gradients(w, x)[0],
        "z": tf.gradients(z, y)[0],
        "twice": tf.gradients(tf.gradients(u, x)[0], x)[0],
    }


def _waits(tf, p, x, y):
    def unused():
        with tf.control_dependencies([y]):
            _ = x + 1.0
        return x + 2.0

    def used():
        with tf.control_dependencies([y]):
            return tf.constant(3.0), x

    first, second = tf.cond(p, used, lambda: (x, x))
    return {"unused": tf.cond(p, unused, lambda: x), "first": first, "second": second}


PURE = {
    "pairs": _pairs,
    "nested": _nested,
    "loop": _loop,
    "branch_in_loop": _branch_in_loop,
    "loop_in_branch": _loop_in_branch,
    "arrays": _arrays,
    "cases": _cases,
    "gradients": _gradients,
    "waits": _waits,
}


def pure_runs(tf):
    """{program/fetch/what is fed: the value, or the placeholder that is missing}."""
    found = {}
    for name, program in PURE.items():
        with tf.Graph().as_default():
            p, x, y = (
                tf.placeholder(kind, [], name=n)
                for n, kind in (("p", tf.bool), ("x", tf.float32), ("y", tf.float32))
            )
            fetches = program(tf, p, x, y)
            values = {"p": (p, True), "q": (p, False), "x": (x, 1.5), "y": (y, 0.5)}
            with tf.Session() as session:
                for key, fetch in fetches.items():
                    for fed in ("px", "qx", "qy", "pxy", "x"):
                        feeds = dict(values[f] for f in fed)
                        found[f"{name}/{key}/{fed}"] = _outcome(tf, session, fetch, feeds)
    return found


def _outcome(tf, session, fetch, feeds):
    try:
        result = session.run(fetch, feeds)
    except tf.errors.InvalidArgumentError as error:
        return "must feed" if "must feed a value" in error.message else error.message
    return [r.tolist() for r in result] if isinstance(result, list) else result.tolist()


def _effects(tf, resource):
    v, w = (tf.Variable(0, name=n, use_resource=resource) for n in "vw")
    p = tf.placeholder(tf.bool, [], name="p")

    def taken():
        tf.assign_add(v, 100)  # nobody needs it
        return tf.assign_add(v, 1), tf.constant(7)

    a, b = tf.cond(p, taken, lambda: (tf.assign_add(w, 1), tf.constant(8)))

    def waiting():
        with tf.control_dependencies([tf.assign_add(v, 10)]):
            return tf.identity(1), tf.constant(2)

    c, d = tf.cond(p, waiting, lambda: (tf.constant(3), tf.constant(4)))

    def body(i, x, y):
        with tf.control_dependencies([tf.assign_add(v, 1000)]):
            x = x + 1
        with tf.control_dependencies([tf.assign_add(w, 1000)]):
            return i + 1, x, y * 1

    i, x, y = tf.while_loop(lambda i, x, y: i < 3, body, [0, 0, 0])
    e, f = tf.cond(
        p, lambda: (tf.assign_add(v, 5).op, tf.constant(1)), lambda: (tf.no_op(), tf.constant(2))
    )
    fetches = {"a": a, "b": b, "c": c, "d": d, "i": i, "x": x, "y": y, "e": e, "f": f}
    for key in "abixy":
        with tf.control_dependencies([fetches[key]]):
            fetches[f"after {key}"] = tf.constant(5)
    fetches["copy"] = tf.identity(b)
    fetches["tuple"] = tf.tuple([a, b])[1]
    return v, w, p, fetches


def effects(tf):
    """{resource/fetch/predicate: the result, and what the two variables are after the run}."""
    found = {}
    for resource in (False, True):
        with tf.Graph().as_default():
            v, w, p, fetches = _effects(tf, resource)
            start = tf.global_variables_initializer()
            with tf.Session() as session:
                for key, fetch in fetches.items():
                    for taken in (True, False):
                        session.run(start)
                        result = session.run(fetch, {p: taken})
                        after = [int(n) for n in session.run([v, w])]
                        found[f"{resource}/{key}/{taken}"] = [int(result), *after]
    return found
