"""The Ray cluster of an address, or one of two nodes that is started here and ends with the program."""

import contextlib
import os
import tempfile

import ray
from ray.cluster_utils import Cluster

NODES, CPUS = 2, 2

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
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temp:
        cluster = Cluster()
        try:
            for _ in range(NODES):
                cluster.add_node(
                    num_cpus=CPUS, object_store_memory=OBJECTS_BYTES, temp_dir=temp,
                    include_dashboard=False)
            yield cluster.address
        finally:
            cluster.shutdown()
