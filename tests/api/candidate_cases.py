"""Programs with candidate samplers, as expressions of `tf`: tests and tests/oracle/make_candidates.py evaluate them."""

TRUE = [[3], [0], [17], [1]]
COMMON = "tf.constant(TRUE, tf.int64), 1, {count}, {unique}"

SAMPLERS = [
    f"tf.nn.{name}_candidate_sampler({COMMON.format(count=count, unique=unique)}, {classes}, seed={seed})"
    for name in ("uniform", "log_uniform", "learned_unigram")
    for count, unique, classes, seed in (
        (7, False, 40, 3),
        (18, True, 20, 5),
        (64, True, 1024, -9),
        (20, True, 20, 1),
    )
]
SAMPLERS += [
    f"tf.nn.fixed_unigram_candidate_sampler({COMMON.format(count=count, unique=unique)}, {arguments}, seed=11)"
    for count, unique, arguments in (
        (9, False, "20, unigrams=list(range(1, 21))"),
        (15, True, "23, distortion=0.75, num_reserved_ids=3, unigrams=list(range(1, 21))"),
        (6, True, "16, unigrams=[1.0] * 8 + [5.0] * 8"),
        (5, False, "10, num_shards=2, shard=1, unigrams=list(range(1, 21))"),
        (5, True, "18, vocab_file=VOCABULARY"),
    )
]
SAMPLERS += ["tf.nn.all_candidate_sampler(tf.constant(TRUE, tf.int64), 1, 18, True)"]
