"""What a dataset gives."""

import headrace as tf


def elements(dataset, one_shot=True, count=1000, session=None):
    """The elements as `Session.run` returns them, up to `count` of them."""
    if one_shot:
        element, initializer = tf.data.make_one_shot_iterator(dataset).get_next(), []
    else:
        iterator = tf.data.make_initializable_iterator(dataset)
        element, initializer = iterator.get_next(), iterator.initializer
    if session is None:
        with tf.Session() as session:
            return _all(session, element, initializer, count)
    return _all(session, element, initializer, count)


def _all(session, element, initializer, count):
    session.run(initializer)
    found = []
    try:
        while len(found) < count:
            found.append(session.run(element))
    except tf.errors.OutOfRangeError:
        pass
    return found
