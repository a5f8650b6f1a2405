"""Does `mlflow.pyfunc.load_model(DIR).predict(df)` say what churn says, row by row?

    python scripts/interop/mlflow_parity.py --churn target/release/churn --run runs/a --data tables

Exports the run's (or bundle's) model with `churn export --format mlflow`, loads it with MLflow (which
checks the data frame against the model's signature), and prints the largest difference of a risk: over
--rows customers of the data, over the same with unknown strings and missing values, and over the
model's own input example. The exit code is 1 if any risk differs by more than --tolerance.

Needs: pip install mlflow-skinny pandas numpy onnxruntime
"""

import json
import pathlib
import sys
import tempfile

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from rows import Program, arguments, bundle_of, changed, compare, missing, month_number, unknown


def cell(column, row, month):
    """What a column holds at the end of a month (counted from year 0; None without months)."""
    name = column["name"].removeprefix(column["source"] + ".")
    found = None
    for version in row["attributes"]:
        begins = version.get("valid_from")
        of_source = version["source"] == column["source"]
        if of_source and (begins is None or month is None or month_number(begins) <= month):
            found = version["values"].get(name)
    return found


def frame(inputs, rows):
    """Raw rows as a data frame, a list in each cell of a column over months."""
    table = {}
    ends = [
        None if row["start"] is None else month_number(row["start"]) + row["length"] - 1
        for row in rows
    ]
    for column in inputs:
        name, holds, monthly = column["name"], column["holds"], column["shape"][1] == "T"
        if holds == "history_months":
            if all(column["shape"][1] != "T" for column in inputs):
                table[name] = [row["length"] for row in rows]
            continue
        if holds == "as_of":
            values = [end // 12 * 100 + end % 12 + 1 for end in ends]
        elif "source" not in column:
            values = [
                [np.nan if x is None else x for x in row["months"][name.removeprefix("measure.")]]
                for row in rows
            ]
        elif monthly:
            values = [
                [cell(column, row, end - row["length"] + 1 + t) for t in range(row["length"])]
                for row, end in zip(rows, ends)
            ]
            # MLflow makes "None" of a missing text in a list.
            gap = np.nan if holds == "number" else ""
            values = [[gap if x is None else x for x in cells] for cells in values]
        else:
            values = [cell(column, row, end) for row, end in zip(rows, ends)]
            if holds == "number":
                values = np.array([np.nan if x is None else x for x in values], np.float64)
        table[name] = values
    return pd.DataFrame(table)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    args = parser.parse_args()

    bundle = bundle_of(args.run)
    program = Program(args.churn, bundle)
    with tempfile.TemporaryDirectory(prefix="mlflow-parity-") as work:
        work = pathlib.Path(work)
        path = work / "model"
        program.call("export", bundle, "--format", "mlflow", "--out", path)
        model = mlflow.pyfunc.load_model(str(path))
        session = onnxruntime.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
        inputs = json.loads(session.get_modelmeta().custom_metadata_map["schema"])["inputs"]
        rows, risks, table = program.score(args.data, work)
        rows, risks = rows[: args.rows], risks[: args.rows]
        found = model.predict(frame(inputs, rows))
        ok = compare("rows", risks, found["risk"], args.tolerance)
        for name, change in [("unknown strings", unknown), ("missing values", missing)]:
            other = changed(rows, change, 1)
            theirs = model.predict(frame(inputs, other))["risk"]
            ok &= compare(name, program.rescore(other, work), theirs, args.tolerance)
        with open(bundle / "golden.jsonl") as lines:
            golden = np.array([json.loads(line)["risk"] for line in lines])
        example = model.input_example
        ok &= compare("input example", golden[: len(example)], model.predict(example)["risk"], args.tolerance)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
