"""Does the exported ONNX file say what churn says, row by row?

    python scripts/interop/onnx_parity.py --churn target/release/churn --run runs/a --data data/telecom

Exports the run's (or bundle's) model, scores the data with `churn score`, feeds the same raw rows to
onnxruntime, or with `--tract PROGRAM` to tract (see `tract_session.py`), and prints the largest
difference of a risk. `onnx.checker` checks the file in full. Variants of the rows are made and scored
again by both programs: strings that no model knows, values left out, nothing known, histories cut
short, and histories that are shown with more padding than they need. The exit code is 1 if any risk
differs by more than --tolerance.

Needs: pip install onnx onnxruntime numpy
"""

import datetime
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from rows import Program, arguments, bundle_of, changed, compare, cut, missing, month_number, nothing, unknown
from tract_session import TractSession

ROWS_PER_CALL = 4096


def days(text):
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days


def onnxruntime_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Model:
    """An exported file, and how rows in the form of golden.jsonl become its inputs."""

    def __init__(self, path, tract=None):
        onnx.checker.check_model(str(path), full_check=True)
        self.session = TractSession(tract, path) if tract else onnxruntime_session(path)
        model = onnx.load(path)
        facts = {fact.key: fact.value for fact in model.metadata_props}
        schema = json.loads(facts["schema"])
        self.matrix = facts["signature"] == "matrix"
        self.columns = schema["columns"] if self.matrix else schema["inputs"]
        self.outputs = [output.name for output in model.graph.output]

    def attribute(self, column, row, month):
        """The value that holds at the end of a month (counted from year 0; None without months)."""
        name = column["name"].removeprefix(column["source"] + ".")
        found = None
        for version in row["attributes"]:
            begins = version.get("valid_from")
            if version["source"] != column["source"]:
                continue
            if begins is None or month is None or month_number(begins) <= month:
                found = version["values"].get(name)
        if column["holds"] == "category":
            if self.matrix:
                values = column["values"]
                return 0 if found is None else values.index(found) + 2 if found in values else 1
            return "" if found is None else found
        if found is None:
            return np.nan
        return days(found) if column["holds"] == "date" else found

    def feed(self, rows, padding):
        """Inputs of some rows; histories stand at the end of T, with `padding` months to spare."""
        lengths = [row["length"] for row in rows]
        width = max(lengths) + padding
        ends = [
            None if row["start"] is None else month_number(row["start"]) + row["length"] - 1
            for row in rows
        ]
        feed = {}
        for column in self.columns:
            name, holds = column["name"], column["holds"]
            if holds == "history_months":
                feed[name] = np.array(lengths, np.int64)[:, None]
            elif holds == "as_of":
                values = [end // 12 * 100 + end % 12 + 1 for end in ends]
                feed[name] = np.array(values, np.int64)[:, None]
            elif "source" not in column:
                # What stands before the history must not be read: something odd goes there.
                values = np.full((len(rows), width), 77.0, np.float32)
                for at, row in enumerate(rows):
                    measure = row["months"][name.removeprefix("measure.")]
                    values[at, width - len(measure):] = [
                        np.nan if value is None else value for value in measure
                    ]
                feed[name] = values
            elif not self.matrix and column["shape"][1] == "T":
                cells = [
                    [self.attribute(column, row, end - width + 1 + t) for t in range(width)]
                    for row, end in zip(rows, ends)
                ]
                feed[name] = np.array(cells, object if holds == "category" else np.float32)
            else:
                cells = [[self.attribute(column, row, end)] for row, end in zip(rows, ends)]
                text = holds == "category" and not self.matrix
                feed[name] = np.array(cells, object if text else np.float32)
        if self.matrix:
            feed = {"features": np.concatenate([feed[c["name"]] for c in self.columns], axis=1)}
        return feed

    def run(self, rows, padding=0):
        found = {name: [] for name in self.outputs}
        for at in range(0, len(rows), ROWS_PER_CALL):
            values = self.session.run(self.outputs, self.feed(rows[at:at + ROWS_PER_CALL], padding))
            for name, value in zip(self.outputs, values):
                found[name].append(value)
        return {name: np.concatenate(values) for name, values in found.items()}


def main():
    parser = arguments(__doc__)
    parser.add_argument("--signature", default="columns", choices=["columns", "matrix"])
    parser.add_argument("--variants", type=int, default=500, help="rows that are changed and scored again")
    parser.add_argument("--as-of", help="score at the end of this month")
    parser.add_argument("--tract", metavar="PROGRAM", help="compare with tract by this `tract-run`")
    args = parser.parse_args()

    bundle = bundle_of(args.run)
    program = Program(args.churn, bundle)
    work = pathlib.Path(tempfile.mkdtemp(prefix="onnx-parity-"))
    try:
        path = work / "model.onnx"
        program.call("export", bundle, "--format", "onnx", "--out", path, "--signature", args.signature)
        model = Model(path, args.tract)
        as_of = ["--as-of", args.as_of] if args.as_of else []
        more = as_of + (["--curve"] if "risk_curve" in model.outputs else [])
        rows, risks, table = program.score(args.data, work, more)
        found = model.run(rows)
        ok = compare("all rows", risks, found["risk"], args.tolerance)
        if "risk_curve" in model.outputs:
            months = found["risk_curve"].shape[1]
            ours = [[float(table[r["customer_id"]][f"risk_{k + 1}"]) for k in range(months)] for r in rows]
            ok &= compare("all rows, month by month", np.array(ours), found["risk_curve"], args.tolerance)
        some = rows[:: max(1, len(rows) // max(1, args.variants))][: args.variants]
        variants = [("unknown strings", unknown), ("missing values", missing), ("nothing known", nothing)]
        if rows[0]["start"] is not None:
            variants += [("shorter histories", cut)]
            again = model.run(some, padding=5)["risk"]
            ok &= compare("5 months of padding more", program.rescore(some, work), again, args.tolerance)
        for seed, (name, change) in enumerate(variants):
            other = changed(some, change, seed)
            ok &= compare(name, program.rescore(other, work), model.run(other)["risk"], args.tolerance)
    finally:
        shutil.rmtree(work)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
