"""The network of `server_peers` under TensorFlow's ParameterServerStrategy.

Its arguments are where to connect to (see `driving`), and the numbers of the run, as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
import itertools

import numpy as np
import tensorflow as tf
from driving import drive


def ports(count):
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    numbers = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return numbers


def serve(cluster, job, index):
    tf.distribute.Server(tf.train.ClusterSpec(cluster), job_name=job, task_index=index).join()


def main():
    widths, batch, rate, workers, _ = json.loads(sys.argv[2])
    own, *theirs = [f"127.0.0.1:{port}" for port in ports(1 + workers)]
    cluster = {"ps": [own], "worker": theirs}
    context = multiprocessing.get_context("spawn")
    jobs = [("ps", 0), *(("worker", i) for i in range(workers))]
    started = [context.Process(target=serve, args=(cluster, *job), daemon=True) for job in jobs]
    for one in started:
        one.start()
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), rpc_layer="grpc"
    )
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        weights = [
            (tf.Variable(0.03 * tf.random.normal((i, o))), tf.Variable(tf.zeros(o)))
            for i, o in itertools.pairwise(widths)
        ]
    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal((batch, widths[0])).astype(np.float32))
    y = tf.constant(rng.standard_normal((batch, 1)).astype(np.float32))

    def train():
        flat = [one for pair in weights for one in pair]
        with tf.GradientTape() as tape:
            h = x
            for i, (w, b) in enumerate(weights):
                h = h @ w + b
                h = tf.nn.relu(h) if i < len(weights) - 1 else h
            value = tf.reduce_mean((h - y) ** 2)
        for one, grad in zip(flat, tape.gradient(value, flat), strict=False):
            one.assign_sub(rate * grad)
        return value

    @tf.function
    def step():
        return strategy.run(train)

    def all_workers(_):
        for _ in range(workers):
            coordinator.schedule(step)
        coordinator.join()
        return 0.0

    drive(all_workers)
    for one in started:
        one.kill()


if __name__ == "__main__":
    main()
