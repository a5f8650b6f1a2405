"""A running `churn score --stdin arrow --stdout arrow`, for programs that hand it pieces of a table.

    with Pipe("churn", "runs/a/bundle") as pipe:
        scores = pipe.score(table)          # pyarrow tables, a row per customer (docs/pipe.md)

Needs: pip install pyarrow
"""

import pathlib
import shutil
import subprocess
import tempfile

import pyarrow as pa

# Starts for one piece: a program that is killed is started again, one that always dies is a fault.
STARTS_MAX = 3


class Pipe:
    def __init__(self, churn, bundle):
        self.command = [churn, "score", "--bundle", bundle, "--stdin", "arrow", "--stdout", "arrow"]
        self.child = None

    def score(self, table):
        """The risks of a table's customers, in its order: all of them, or an error."""
        schema = scores_schema(table.schema.field("customer_id").type)
        if table.num_rows == 0:
            return schema.empty_table()
        (batch,) = table.combine_chunks().to_batches()
        for start in range(STARTS_MAX):
            try:
                return pa.Table.from_batches([self._batch(batch)]).cast(schema)
            except (OSError, StopIteration, pa.ArrowInvalid) as error:
                code, said = self._end()
                # Below 0 the program was killed. Otherwise it would say the same of these rows again.
                if code >= 0 or start + 1 == STARTS_MAX:
                    raise RuntimeError(f"churn ended with {code}: {said or error}") from error

    def _batch(self, batch):
        if self.child is None:
            self.said = tempfile.TemporaryFile()
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said
            )
            self.writer = pa.ipc.new_stream(self.child.stdin, batch.schema)
            self.reader = None
        self.writer.write_batch(batch)
        self.child.stdin.flush()
        # Only now: pyarrow sends the schema with the first batch.
        self.reader = self.reader or pa.ipc.open_stream(self.child.stdout)
        return self.reader.read_next_batch()

    def _end(self):
        """The exit code of a program that is about to end, and its last line."""
        child, self.child = self.child, None
        code = child.wait(10)
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return code, lines[-1] if lines else ""

    def close(self):
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def scores_schema(customer_id):
    """What comes back, in types that every engine knows."""
    return pa.schema(
        [("customer_id", customer_id), ("risk", pa.float64()), ("bundle_id", pa.string())]
    )


def arguments(parser):
    """Those that the engines share, as paths that hold on every worker of this machine."""
    parser.add_argument("--churn", default=shutil.which("churn") or "target/release/churn")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--input", required=True, help="Parquet file or folder, a row per customer")
    parser.add_argument("--output", required=True, help="folder of Parquet files to make")
    parser.add_argument("--batch", type=int, default=4096, help="customers at once")
    args = parser.parse_args()
    for name in ["churn", "bundle", "input", "output"]:
        setattr(args, name, str(pathlib.Path(getattr(args, name)).resolve()))
    for path in [args.churn, args.bundle, args.input]:
        if not pathlib.Path(path).exists():
            parser.error(f"{path}: is not there")
    if pathlib.Path(args.output).exists():
        parser.error(f"{args.output}: is there; remove it first")
    return args
