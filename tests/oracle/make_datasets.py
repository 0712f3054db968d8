"""Stores what TensorFlow 1.15's datasets give, where that does not follow from their description.

    ~/.oracle-tf115/bin/python tests/oracle/make_datasets.py

writes tests/data/datasets.json: {name: [element, ...]}, and datasets_graph.pb, a graph with pipelines; what makes them is
shared with the test.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from dataset_pipelines import GRAPH_ELEMENTS, PIPELINES, build_graph

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "datasets.json")


def main():
    import tensorflow as tf

    found = {}
    for name, (make, one_shot, count, graph_seed) in sorted(PIPELINES.items()):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            if graph_seed is not None:
                tf.compat.v1.set_random_seed(graph_seed)
            dataset = make(tf)
            if one_shot:
                element = dataset.make_one_shot_iterator().get_next()
            else:
                iterator = dataset.make_initializable_iterator()
                element = iterator.get_next()
                session.run(iterator.initializer)
            values = []
            try:
                while len(values) < count:
                    values.append(session.run(element).tolist())
            except tf.errors.OutOfRangeError:
                pass
            found[name] = values
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        build_graph(tf)
        with open(OUT.replace("datasets.json", "datasets_graph.pb"), "wb") as file:
            file.write(graph.as_graph_def().SerializeToString())
        session.run([op for op in graph.get_operations() if op.type == "MakeIterator"])
        for name in GRAPH_ELEMENTS:
            values = found["graph:" + name] = []
            try:
                while True:
                    values.append(session.run(name + ":0").tolist())
            except tf.errors.OutOfRangeError:
                pass
    with open(OUT, "w") as file:
        json.dump(found, file, indent=None, separators=(",", ":"), sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
