"""Runs model.onnx for `mlflow.pyfunc.load_model(DIR).predict(df)`.

A row of the data frame is a customer at an as-of month. A column over months holds a list in each
row, oldest month first, the as-of month last; lists may be of different lengths from row to row. A
missing text or date in a list is "", since MLflow makes "None" of None there. The metadata of model.onnx says which columns there are.
"""

import datetime
import json

import numpy as np
import onnxruntime
import pandas as pd

ROWS_PER_CALL = 1024
EPOCH = datetime.date(1970, 1, 1)


def _load_pyfunc(path):
    return ChurnModel(path)


class ChurnModel:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.inputs = json.loads(facts["schema"])["inputs"]
        self.outputs = [output.name for output in self.session.get_outputs()]

    def predict(self, frame, params=None):
        parts = [
            self._predict(frame.iloc[at:at + ROWS_PER_CALL])
            for at in range(0, max(1, len(frame)), ROWS_PER_CALL)
        ]
        return pd.concat(parts)

    def _predict(self, frame):
        feed, lengths = {}, None
        monthly = [column for column in self.inputs if column["shape"][1] == "T"]
        if monthly:
            lengths = months(frame, [column["name"] for column in monthly])
        for column in self.inputs:
            name, holds = column["name"], column["holds"]
            if holds == "history_months":
                values = frame[name] if name in frame else lengths
                feed[name] = np.asarray(values, np.int64).reshape(-1, 1)
            elif holds == "as_of":
                feed[name] = np.asarray(frame[name], np.int64).reshape(-1, 1)
            elif column["shape"][1] == "T":
                feed[name] = padded(frame[name], holds, lengths)
            else:
                feed[name] = cells(frame[name], holds).reshape(-1, 1)
        found = dict(zip(self.outputs, self.session.run(self.outputs, feed)))
        table = {"risk": found["risk"][:, 0].astype(np.float64)}
        for month in range(found["risk_curve"].shape[1] if "risk_curve" in found else 0):
            table[f"risk_{month + 1}"] = found["risk_curve"][:, month].astype(np.float64)
        return pd.DataFrame(table, index=frame.index)


def months(frame, names):
    """How many months each row has: all its lists must have as many."""
    lengths = np.array(
        [[0 if is_missing(cell) else len(cell) for cell in frame[name]] for name in names], np.int64
    ).reshape(len(names), len(frame))
    most = lengths.max(0)
    for name, of in zip(names, lengths):
        wrong = np.flatnonzero((of != most) & (of != 0))
        if len(wrong):
            row = wrong[0]
            raise ValueError(f"row {row}: `{name}` has {of[row]} months, another column {most[row]}")
    if (most == 0).any():
        raise ValueError(f"row {np.flatnonzero(most == 0)[0]} has no months")
    return most


def padded(column, holds, lengths):
    """Lists as the last columns of a matrix; what stands before them is not read."""
    width = int(lengths.max()) if len(lengths) else 1
    text = holds == "category"
    matrix = np.full((len(column), width), "" if text else np.nan, object if text else np.float32)
    for row, cell in enumerate(column):
        if not is_missing(cell) and len(cell):
            matrix[row, width - len(cell):] = cells(cell, holds)
    return matrix


def cells(values, holds):
    if holds == "category":
        texts = ["" if is_missing(value) else str(value) for value in values]
        return np.array(texts, object)
    if holds == "date":
        return np.array([days(value) for value in values], np.float32)
    numbers = [np.nan if is_missing(value) else float(value) for value in values]
    return np.array(numbers, np.float32)


def days(value):
    """Days since 1970-01-01 of a date, its text 2024-03-31, a timestamp, or such a number."""
    if is_missing(value) or (isinstance(value, str) and value == ""):
        return np.nan
    if isinstance(value, str):
        value = datetime.date.fromisoformat(value)
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime.datetime):
        value = value.date()
    return (value - EPOCH).days if isinstance(value, datetime.date) else float(value)


def is_missing(value):
    if value is None or value is pd.NaT or value is pd.NA:
        return True
    return isinstance(value, (float, np.floating)) and np.isnan(value)
