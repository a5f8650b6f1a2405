"""Does PyTorch say what churn says, row by row?

    python scripts/interop/torch_parity.py --churn target/release/churn --run runs/a --data tables

Exports the run's (or bundle's) networks as safetensors, loads them into `torch_model.py`, scores the
data with both and prints the largest difference of a risk: all rows, the bundle's golden rows, and
rows that are changed as in `onnx_parity.py` (unknown strings, values left out, shorter histories).
The exit code is 1 if any risk differs by more than --tolerance.

Needs: pip install torch numpy safetensors
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch_model
from rows import Program, arguments, bundle_of, changed, compare, cut, missing, nothing, unknown


def main():
    parser = arguments(__doc__)
    parser.add_argument("--variants", type=int, default=500, help="rows that are changed and scored again")
    parser.add_argument("--as-of", help="score at the end of this month")
    args = parser.parse_args()

    bundle = bundle_of(args.run)
    program = Program(args.churn, bundle)
    with tempfile.TemporaryDirectory(prefix="torch-parity-") as work:
        work = pathlib.Path(work)
        path = work / "model.safetensors"
        program.call("export", bundle, "--format", "safetensors", "--out", path)
        model = torch_model.load(path)
        rows, risks, _ = program.score(args.data, work, ["--as-of", args.as_of] if args.as_of else [])
        ok = compare("all rows", risks, model.risk(rows), args.tolerance)
        with open(bundle / "golden.jsonl") as lines:
            golden = [json.loads(line) for line in lines]
        found = model.risk([row["customer"] for row in golden])
        ok &= compare("golden rows", np.array([row["risk"] for row in golden]), found, args.tolerance)
        some = rows[:: max(1, len(rows) // max(1, args.variants))][: args.variants]
        variants = [("unknown strings", unknown), ("missing values", missing), ("nothing known", nothing)]
        if rows[0]["start"] is not None:
            variants.append(("shorter histories", cut))
        for seed, (name, change) in enumerate(variants):
            other = changed(some, change, seed)
            ok &= compare(name, program.rescore(other, work), model.risk(other), args.tolerance)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
