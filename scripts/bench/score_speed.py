"""File to file scoring: churn beside pandas + onnxruntime and polars + onnxruntime, on the same rows.

    churn simulate telecom --customers 2000000 --months 12 --seed 7 --out data/big
    python scripts/bench/score_speed.py --churn target/release/churn --bundle runs/a/bundle \
        --data data/big --runs 3 --latency 2000

The bundle is one of configs/telecom.toml. Each program reads customers.csv, activity.parquet and
tickets.parquet, scores every customer who is still there at the end of the last month, and writes
customer_id and risk as Parquet. The peers do it with whole columns: months to [N, T] arrays by one
indexed store, events by sorted keys, model.onnx in batches. Runs alternate; printed are the seconds of
each, the ratio to churn (median and range of the pairs), peak memory of the process, and the largest
difference of a risk. --latency times single rows: the loaded model through the Arrow pipe, one row a
batch, beside a session of onnxruntime, median and 99th percentile.

Needs: pip install onnxruntime numpy pandas polars pyarrow
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

MEASURES = [
    "active_days", "bill", "care_calls", "data_gb",
    "price_rise_pct", "roaming_days", "sms", "voice_minutes",
]
NUMBERS = ["age", "household", "list_price"]
TEXTS = ["contract", "network", "payment", "region"]


def session(bundle, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = str(pathlib.Path(bundle) / "model.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def by_customer_month(codes, months, first, size):
    """Cells of rows in an [N, T] array, and which rows have one."""
    at = months - first
    there = (codes >= 0) & (at >= 0) & (at < size[1])
    return codes * size[1] + at, there


def monthly(size, activity, tickets):
    """All measures as [N, T], and how many months of history each customer has."""
    rows, months = size
    arrays = {}
    cell, there = activity["cell"], activity["there"]
    cell, late = cell[there], activity["late"][there]
    has_row = np.zeros(rows * months, bool)
    has_row[cell] = True
    for name in MEASURES:
        array = np.zeros(rows * months, np.float32)
        array[cell] = np.where(late, np.nan, activity[name][there])
        arrays[name] = array
    cell, there = tickets["cell"], tickets["there"]
    cell = cell[there]
    has_row[cell] = True
    count = np.bincount(cell, minlength=rows * months)
    hours = np.nan_to_num(tickets["hours"][there])
    arrays["tickets"] = count.astype(np.float32)
    arrays["ticket_hours"] = np.bincount(cell, hours, minlength=rows * months).astype(np.float32)
    topic = tickets["topic"][there]
    pairs = np.unique(cell[topic >= 0] * 64 + topic[topic >= 0]) // 64
    arrays["ticket_topics"] = np.bincount(pairs, minlength=rows * months).astype(np.float32)
    last = np.zeros(rows * months, np.float32)
    last[cell] = np.nan  # Tickets without an answer.
    answer, day = tickets["answer"][there], tickets["day"][there]
    known = ~np.isnan(answer)
    order = np.lexsort((answer[known], day[known]))
    last[cell[known][order]] = answer[known][order]  # The latest store wins.
    arrays["last_satisfaction"] = last
    first = np.where(has_row.reshape(size).any(1), has_row.reshape(size).argmax(1), months - 1)
    return {name: array.reshape(size) for name, array in arrays.items()}, months - first


def risks(model, attributes, arrays, history, as_of, batch_rows):
    found = []
    as_of = as_of.year * 100 + as_of.month
    wanted = {spec.name for spec in model.get_inputs()}
    for at in range(0, len(history), batch_rows):
        rows = slice(at, at + batch_rows)
        feed = {name: column[rows, None] for name, column in attributes.items()}
        feed |= {name: array[rows] for name, array in arrays.items()}
        feed["history_months"] = history[rows, None].astype(np.int64)
        feed["as_of"] = np.full_like(feed["history_months"], as_of)
        feed = {name: value for name, value in feed.items() if name in wanted}
        found.append(model.run(["risk"], feed)[0][:, 0])
    return np.concatenate(found)


def with_pandas(data, bundle, out, batch_rows):
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(name, columns):
        table = pq.read_table(f"{data}/{name}.parquet", columns=columns)
        # pandas does not know the type string_view.
        plain = [(f.name, pa.large_string() if pa.types.is_string_view(f.type) else f.type)
                 for f in table.schema]
        return table.cast(pa.schema(plain)).to_pandas(types_mapper=pd.ArrowDtype)

    columns = ["customer_id", *NUMBERS, *TEXTS, "signup_date", "churn_date"]
    customers = pd.read_csv(f"{data}/customers.csv", usecols=columns, engine="pyarrow",
                            dtype_backend="pyarrow")
    activity = read("activity", ["customer_id", "month", "loaded_at", *MEASURES])
    tickets = read("tickets", ["customer_id", "opened_on", "topic", "hours_to_solve", "satisfaction"])
    month = lambda dates: dates.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    day = lambda column: column.astype("timestamp[s][pyarrow]").to_numpy(
        dtype="datetime64[s]", na_value=np.datetime64("NaT"))
    months, opened = month(day(activity["month"])), month(day(tickets["opened_on"]))
    last = max(months.max(), opened.max())
    first = min(months.min(), opened.min())
    churned = month(day(customers["churn_date"]))
    customers = customers[customers["churn_date"].isna().to_numpy() | (churned > last)]
    size = (len(customers), int(last - first + 1))
    index = pd.Index(customers["customer_id"])
    cell, there = by_customer_month(index.get_indexer(activity["customer_id"]), months, first, size)
    loaded = activity["loaded_at"]
    facts = {"cell": cell, "there": there,
             "late": loaded.notna().to_numpy() & (month(day(loaded)) > months)}
    facts |= {name: activity[name].to_numpy(np.float64, na_value=np.nan) for name in MEASURES}
    cell, there = by_customer_month(index.get_indexer(tickets["customer_id"]), opened, first, size)
    number = lambda name: tickets[name].to_numpy(np.float64, na_value=np.nan)
    topic = pd.factorize(tickets["topic"])[0]
    answers = {"cell": cell, "there": there, "hours": number("hours_to_solve"), "topic": topic,
               "answer": number("satisfaction"), "day": day(tickets["opened_on"]).astype(np.int64)}
    arrays, history = monthly(size, facts, answers)
    attributes = {n: customers[n].to_numpy(np.float32, na_value=np.nan) for n in NUMBERS}
    attributes |= {n: customers[n].fillna("").to_numpy(object) for n in TEXTS}
    signup = day(customers["signup_date"]).astype("datetime64[D]")
    attributes["signup_date"] = np.where(np.isnat(signup), np.nan, signup.astype(np.int64))
    attributes["signup_date"] = attributes["signup_date"].astype(np.float32)
    as_of = np.datetime64(int(last), "M").astype(object)
    found = risks(session(bundle, 2), attributes, arrays, history, as_of, batch_rows)
    pd.DataFrame({"customer_id": customers["customer_id"], "risk": found}).to_parquet(out)


def with_polars(data, bundle, out, batch_rows):
    import polars as pl

    month = lambda name: (pl.col(name).dt.year().cast(pl.Int64) * 12 + pl.col(name).dt.month() - 1)
    customers = pl.scan_csv(f"{data}/customers.csv", try_parse_dates=True).select(
        "customer_id", *NUMBERS, *TEXTS, "signup_date", month("churn_date").alias("churned"))
    activity = pl.scan_parquet(f"{data}/activity.parquet").with_columns(
        month("month").alias("at"), (month("loaded_at") > month("month")).alias("late"))
    tickets = pl.scan_parquet(f"{data}/tickets.parquet").with_columns(month("opened_on").alias("at"))
    bounds = pl.concat([activity.select("at"), tickets.select("at")])
    first, last = bounds.select(pl.col("at").min(), pl.col("at").max().alias("max")).collect().row(0)
    customers = customers.filter(pl.col("churned").is_null() | (pl.col("churned") > last))
    customers = customers.drop("churned").collect().with_row_index("code")
    codes = customers.lazy().select("customer_id", pl.col("code").cast(pl.Int64))
    size = (len(customers), last - first + 1)
    cell = (pl.col("code") * size[1] + pl.col("at") - first).alias("cell")
    activity = activity.join(codes, on="customer_id").select(
        cell, pl.col("late").fill_null(False), *MEASURES).collect()
    tickets = tickets.join(codes, on="customer_id").select(
        cell, pl.col("hours_to_solve").alias("hours"), pl.col("satisfaction").alias("answer"),
        pl.col("topic").cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1),
        pl.col("opened_on").to_physical().alias("day")).collect()
    number = lambda frame, name: frame[name].to_numpy().astype(np.float64)
    facts = {name: activity[name].to_numpy() for name in ["cell", "late"]}
    facts |= {name: number(activity, name) for name in MEASURES}
    answers = {name: tickets[name].to_numpy() for name in ["cell", "day", "topic"]}
    answers |= {name: number(tickets, name) for name in ["hours", "answer"]}
    for table in (facts, answers):
        table["there"] = np.ones(len(table["cell"]), bool)
    arrays, history = monthly(size, facts, answers)
    attributes = {n: customers[n].cast(pl.Float32).to_numpy() for n in NUMBERS}
    attributes |= {n: customers[n].fill_null("").to_numpy().astype(object) for n in TEXTS}
    signup = customers["signup_date"].to_physical().cast(pl.Float32).to_numpy()
    attributes["signup_date"] = signup
    as_of = np.datetime64(last - 1970 * 12, "M").astype(object)
    found = risks(session(bundle, 2), attributes, arrays, history, as_of, batch_rows)
    customers.select("customer_id").with_columns(risk=pl.Series(found)).write_parquet(out)


def measured(command):
    """Seconds and peak megabytes of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {command}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def compare(args):
    import pyarrow.parquet as pq

    out = pathlib.Path(tempfile.mkdtemp())
    me = [sys.executable, __file__, "--bundle", args.bundle, "--data", args.data]
    me += ["--batch-rows", str(args.batch_rows)]
    commands = {"churn": [args.churn, "score", "--bundle", args.bundle, "--input", args.data,
                          "--output", str(out / "churn.parquet")]}
    for peer in args.peers.split(","):
        commands[peer] = [*me, "--peer", peer, "--out", str(out / f"{peer}.parquet")]
    seconds, memory = {name: [] for name in commands}, {}
    for run in range(args.runs):
        for name, command in commands.items():
            took, peak = measured(command)
            seconds[name].append(took)
            memory[name] = max(memory.get(name, 0), peak)
            print(f"run {run + 1} {name:<7} {took:7.1f} s {peak:7.0f} MB", flush=True)
    table = lambda name: dict(zip(*[c.to_pylist() for c in pq.read_table(
        out / f"{name}.parquet", columns=["customer_id", "risk"]).columns]))
    ours = table("churn")
    for name in list(commands)[1:]:
        ratios = [peer / own for peer, own in zip(seconds[name], seconds["churn"])]
        theirs = table(name)
        if theirs.keys() != ours.keys():
            sys.exit(f"{name} scored {len(theirs)} customers, churn {len(ours)}")
        apart = max(abs(risk - ours[id]) for id, risk in theirs.items())
        print(f"{name} + onnxruntime takes {statistics.median(ratios):.2f} times as long as churn "
              f"({min(ratios):.2f} to {max(ratios):.2f}); {memory[name]:.0f} MB and "
              f"{memory['churn']:.0f} MB; {len(ours)} risks at most {apart:.1e} apart")


def latency(args):
    import pyarrow as pa

    random = np.random.default_rng(1)
    months, rows = 12, args.latency
    attributes = {n: random.uniform(1, 60, rows).astype(np.float32) for n in NUMBERS}
    attributes |= {n: np.array(["north"] * rows, object) for n in TEXTS}
    attributes["signup_date"] = random.integers(17000, 19000, rows).astype(np.float32)
    names = [*MEASURES, "tickets", "ticket_hours", "ticket_topics", "last_satisfaction"]
    arrays = {n: random.uniform(0, 30, (rows, months)).astype(np.float32) for n in names}
    model = session(args.bundle, 1)
    wanted = {spec.name for spec in model.get_inputs()}
    theirs, ours = [], []
    for row in range(rows):
        feed = {n: c[row : row + 1, None] for n, c in attributes.items()}
        feed |= {n: a[row : row + 1] for n, a in arrays.items()}
        feed["history_months"] = np.array([[months]])
        feed["as_of"] = np.array([[202406]])
        feed = {n: v for n, v in feed.items() if n in wanted}
        began = time.perf_counter()
        model.run(["risk"], feed)
        theirs.append(time.perf_counter() - began)
    columns = {"customer_id": pa.array([str(row) for row in range(rows)]),
               "as_of": pa.array([202406] * rows)}
    columns |= {n: pa.array(attributes[n]) for n in [*NUMBERS, *TEXTS]}
    columns["signup_date"] = pa.array(attributes["signup_date"].astype(np.int32)).cast(pa.date32())
    columns |= {n: pa.FixedSizeListArray.from_arrays(a.ravel(), months).cast(pa.list_(pa.float32()))
                for n, a in arrays.items()}
    table = pa.table(columns)
    child = subprocess.Popen([args.churn, "score", "--bundle", args.bundle, "--stdin", "arrow",
                              "--stdout", "arrow"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    # pyarrow sends the schema with the first batch; alone, it tells when the model is loaded.
    child.stdin.write(table.schema.serialize())
    child.stdin.flush()
    reader = pa.ipc.open_stream(child.stdout)
    for batch in table.to_batches(max_chunksize=1):
        began = time.perf_counter()
        child.stdin.write(batch.serialize())
        child.stdin.flush()
        reader.read_next_batch()
        ours.append(time.perf_counter() - began)
    child.stdin.close()
    child.wait()
    print(f"first batch through the pipe {ours[0] * 1e3:.2f} ms")
    for name, took in [("churn, pipe", ours), ("onnxruntime, one thread", theirs)]:
        took = np.array(took[10:]) * 1e6
        print(f"single rows, {name}: median {np.median(took):.0f} us, "
              f"99th percentile {np.percentile(took, 99):.0f} us")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--data", help="folder of the tables")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default="pandas,polars")
    parser.add_argument("--batch-rows", type=int, default=2048)
    parser.add_argument("--latency", type=int, default=0, help="single rows to time")
    parser.add_argument("--peer", choices=["pandas", "polars"], help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer = {"pandas": with_pandas, "polars": with_polars}[args.peer]
        return peer(args.data, args.bundle, args.out, args.batch_rows)
    if args.data:
        compare(args)
    if args.latency:
        latency(args)


if __name__ == "__main__":
    main()
