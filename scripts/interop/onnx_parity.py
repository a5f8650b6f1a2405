"""Does the exported ONNX file say what churn says, row by row?

    python scripts/interop/onnx_parity.py --churn target/release/churn --run runs/a --data data/telecom

Exports the run's (or bundle's) model, scores the data with `churn score`, feeds the same raw rows to
onnxruntime, with `--tract PROGRAM` also to tract (see `tract_session.py`), and prints the largest
difference of a risk. `onnx.checker` checks the file in full. Variants of the rows are made and scored
again by both programs: strings that no model knows, values left out, nothing known, histories cut
short at their beginning or end, and histories that are shown with more padding than they need. A model
of steps (`--signature step`) is taken through every history month by month. The exit code is 1 if any
risk differs by more than --tolerance.

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
from rows import Program, arguments, bundle_of, changed, compare, cut, early, missing, month_number, nothing, unknown
from tract_session import TractSession

ROWS_PER_CALL = 4096


def days(text):
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days


def as_it_is(row, draw):
    pass


def month_of(row, month):
    """The row as it was in one month of its history, by itself."""
    now = month_number(row["start"]) + month
    return {
        "start": f"{now // 12:04}-{now % 12 + 1:02}", "length": 1, "attributes": row["attributes"],
        "months": {name: values[month:month + 1] for name, values in row["months"].items()},
    }


def onnxruntime_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Model:
    """An exported file, and how rows in the form of golden.jsonl become its inputs."""

    def __init__(self, path, tract=None):
        onnx.checker.check_model(str(path), full_check=True)
        self.sessions = {"onnxruntime": onnxruntime_session(path)}
        if tract:
            self.sessions["tract"] = TractSession(tract, path)
        model = onnx.load(path)
        facts = {fact.key: fact.value for fact in model.metadata_props}
        schema = json.loads(facts["schema"])
        self.matrix = facts["signature"] == "matrix"
        self.steps = facts["signature"] == "step"
        # Of a GRU that is written out for so many.
        self.months = int(facts.get("months", 0))
        self.columns = schema["columns"] if self.matrix else schema["inputs"]
        self.state = sum(column["shape"][1] for column in self.columns if column["holds"] == "state")
        # Names with the number of their columns.
        outputs = [(output.name, output.type.tensor_type) for output in model.graph.output]
        self.outputs = {name: of.shape.dim[1].dim_value for name, of in outputs}

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
        width = self.months or max(lengths) + padding
        ends = [
            None if row["start"] is None else month_number(row["start"]) + row["length"] - 1
            for row in rows
        ]
        feed = {}
        for column in self.columns:
            name, holds = column["name"], column["holds"]
            if holds == "state":
                continue
            if holds == "history_months":
                feed[name] = np.array(lengths, np.int64)[:, None]
            elif holds == "as_of":
                values = [end // 12 * 100 + end % 12 + 1 for end in ends]
                feed[name] = np.array(values, np.int64)[:, None]
            elif "source" not in column:
                # What stands before the history must not be read: something odd goes there.
                values = np.full((len(rows), width), 77.0, np.float32)
                for at, row in enumerate(rows):
                    measure = row["months"][name.removeprefix("measure.")][-width:]
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

    def run(self, session, outputs, rows, padding):
        """The outputs at the end of the rows' histories."""
        if not self.steps:
            return session.run(outputs, self.feed(rows, padding))
        states = np.zeros((len(rows), self.state), np.float32)
        found = [np.zeros((len(rows), self.outputs[name]), np.float32) for name in outputs]
        for month in range(max(row["length"] for row in rows)):
            there = [at for at, row in enumerate(rows) if row["length"] > month]
            feed = self.feed([month_of(rows[at], month) for at in there], 0)
            *values, states[there] = session.run(
                [*outputs, "state_out"], {**feed, "state_in": states[there]})
            for kept, new in zip(found, values):
                kept[there] = new
        return found

    def check(self, name, rows, expected, tolerance, padding=0):
        """Compares outputs, by name, with what each runtime says."""
        found = {runtime: {output: [] for output in expected} for runtime in self.sessions}
        for at in range(0, len(rows), ROWS_PER_CALL):
            some = rows[at:at + ROWS_PER_CALL]
            for runtime, session in self.sessions.items():
                for output, values in zip(expected, self.run(session, list(expected), some, padding)):
                    found[runtime][output].append(values)
        ok = True
        for runtime, outputs in found.items():
            for output, ours in expected.items():
                what = name if output == "risk" else f"{name}, month by month"
                theirs = np.concatenate(outputs[output])
                ok &= compare(f"{runtime}: {what}", ours, theirs, tolerance)
        return ok


def main():
    parser = arguments(__doc__)
    parser.add_argument("--signature", default="columns", choices=["columns", "matrix", "step"])
    parser.add_argument("--unroll", metavar="MONTHS", help="write the GRU out, at least as long as the histories")
    parser.add_argument("--variants", type=int, default=500, help="rows that are changed and scored again")
    parser.add_argument("--as-of", help="score at the end of this month")
    parser.add_argument("--tract", metavar="PROGRAM", help="compare with tract by this `tract-run`")
    args = parser.parse_args()

    bundle = bundle_of(args.run)
    program = Program(args.churn, bundle)
    work = pathlib.Path(tempfile.mkdtemp(prefix="onnx-parity-"))
    try:
        path = work / "model.onnx"
        unroll = ["--unroll", args.unroll] if args.unroll else []
        more = ["--signature", args.signature, *unroll]
        program.call("export", bundle, "--format", "onnx", "--out", path, *more)
        model = Model(path, args.tract)
        as_of = ["--as-of", args.as_of] if args.as_of else []
        more = as_of + (["--curve"] if "risk_curve" in model.outputs else [])
        rows, risks, table = program.score(args.data, work, more)
        expected = {"risk": risks}
        if "risk_curve" in model.outputs:
            months = range(model.outputs["risk_curve"])
            ours = [[float(table[r["customer_id"]][f"risk_{k + 1}"]) for k in months] for r in rows]
            expected["risk_curve"] = np.array(ours)
        ok = model.check("all rows", rows, expected, args.tolerance)
        some = rows[:: max(1, len(rows) // max(1, args.variants))][: args.variants]
        variants = [
            ("unknown strings", unknown, 0),
            ("missing values", missing, 0),
            ("nothing known", nothing, 0),
        ]
        if rows[0]["start"] is not None:
            variants += [("shorter histories", cut, 0), ("earlier months", early, 0)]
            if not model.steps:
                variants += [("5 months of padding more", as_it_is, 5)]
        for seed, (name, change, padding) in enumerate(variants):
            other = changed(some, change, seed)
            expected = {"risk": program.rescore(other, work)}
            ok &= model.check(name, other, expected, args.tolerance, padding)
    finally:
        shutil.rmtree(work)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
