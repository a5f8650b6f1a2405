"""The Ray cluster of an address, or one of two nodes that is started here and ends with the program."""

import contextlib
import os
import tempfile

import ray
from ray.cluster_utils import Cluster

NODES, CPUS = 2, 2

# Ray gives a node 30 s to start, which is too little beside much other work.
STARTS_MAX = 3

# Of a node. Batches are a few MB, and what does not fit is spilled to disk.
OBJECTS_BYTES = 200 << 20


@contextlib.contextmanager
def joined(address):
    with contextlib.ExitStack() as ends:
        if address is None:
            address = ends.enter_context(started())
        ray.init(address=address, log_to_driver=False, logging_level="error")
        ends.callback(ray.shutdown)
        yield


@contextlib.contextmanager
def started():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Beside other work, workers at the niceness of 15 that Ray gives them would hardly begin.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Short: the paths of Ray's sockets, which lie here, may not exceed 107 characters.
    with tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as temp:
        os.environ["RAY_TMPDIR"] = temp
        cluster = Cluster()
        try:
            for _ in range(NODES):
                add_node(cluster)
            yield cluster.address
        finally:
            cluster.shutdown()


def add_node(cluster):
    for start in range(STARTS_MAX):
        try:
            cluster.add_node(
                num_cpus=CPUS, object_store_memory=OBJECTS_BYTES, include_dashboard=False)
            return
        except Exception:  # Ray raises nothing more special.
            if start + 1 == STARTS_MAX:
                raise
