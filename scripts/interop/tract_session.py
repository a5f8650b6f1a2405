"""An ONNX file in tract, a Rust runtime, called like an onnxruntime session.

The program is `tract-run` of the folder `tract`: cargo build --release --manifest-path
scripts/interop/tract/Cargo.toml
"""

import json
import subprocess
import sys

import numpy as np


def cells(values):
    """A tensor as tract-run reads it."""
    kind = {"O": "texts", "i": "integers", "f": "numbers"}[values.dtype.kind]
    flat = values.reshape(-1).tolist()
    if kind == "numbers":
        flat = [None if number != number else number for number in flat]
    return {kind: [list(values.shape), flat]}


class TractSession:
    def __init__(self, program, path):
        self.process = subprocess.Popen(
            [program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, names, feed):
        """Outputs of the names, in their order."""
        line = json.dumps({name: cells(values) for name, values in feed.items()})
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # It has said why on its standard error.
        found = self.process.stdout.readline()
        if not found:
            sys.exit(f"tract-run ended with exit code {self.process.wait()}")
        found = json.loads(found)
        return [
            np.array(flat, np.float32).reshape(shape)
            for shape, flat in (found[name]["numbers"] for name in names)
        ]
