"""A Parquet table with a row per customer, as docs/pipe.md has it, from what `churn score --rows` wrote.

    churn score --bundle runs/a/bundle --input tables --output scores.parquet --rows rows.jsonl
    python scripts/customers.py rows.jsonl customers.parquet

Needs: pip install pyarrow
"""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq

TAKEN = {"customer_id", "as_of", "history_months", "risk", "risk_curve"}


def month_number(text):
    year, month = text.split("-")
    return int(year) * 12 + int(month) - 1


def versions(row):
    """Values of the row's attributes by source and name, with the month from which each holds."""
    found = {}
    for version in row["attributes"]:
        begins = version.get("valid_from")
        for name, value in version["values"].items():
            found.setdefault((version["source"], name), []).append((begins, value))
    return found


def by_month(values, start, length):
    """What holds at the end of each month."""
    first = month_number(start)
    held = [None] * length
    for begins, value in values:
        since = 0 if begins is None else max(0, month_number(begins[:7]) - first)
        held[since:] = [value] * len(held[since:])
    return held


def customers(rows):
    measures = set().union(*(row["months"] for row in rows))
    columns = {"customer_id": [row["customer_id"] for row in rows]}
    if all(row["start"] for row in rows):
        ends = [month_number(row["start"]) + row["length"] - 1 for row in rows]
        columns["as_of"] = [end // 12 * 100 + end % 12 + 1 for end in ends]
        columns["history_months"] = [row["length"] for row in rows]
    for name in sorted(measures):
        column = f"measure.{name}" if name in TAKEN else name
        columns[column] = [row["months"].get(name) for row in rows]
    found = [versions(row) for row in rows]
    monthly = {
        key for row in found for key, values in row.items() if any(begins for begins, _ in values)
    }
    for source, name in sorted(set().union(*found)):
        column = f"{source}.{name}" if name in TAKEN | measures else name
        values = [row.get((source, name), []) for row in found]
        if (source, name) in monthly:
            columns[column] = [
                by_month(cells, row["start"], row["length"]) for cells, row in zip(values, rows)
            ]
        else:
            columns[column] = [cells[-1][1] if cells else None for cells in values]
    return pa.table(columns)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as lines:
        rows = [json.loads(line)["customer"] for line in lines]
    pq.write_table(customers(rows), sys.argv[2])


if __name__ == "__main__":
    main()
