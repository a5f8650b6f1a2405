#!/usr/bin/env python3
"""One training step of ours beside one of PyTorch: same shapes, at most the same threads, f32, on the CPU.

    python3 scripts/bench/train_speed.py [--churn target/release/churn] [--threads 2] [--model mlp|gru]
        [--shape TEXT] [--quick] [--cpu-time] [--compile] [--devices cpu,ndarray,gpu] [--json FILE]

A step is forward, mean binary cross-entropy, backward and AdamW, on a batch that lies in memory.
Ours is `churn bench`, one child for all requests; PyTorch is torch_step.py in this process. The two
take turns: a turn is about 0.3 s of steps, its figure their median, a ratio is PyTorch's over ours of
the same pair of turns. For each shape PyTorch first tries one thread and all of them and keeps what is
faster. The machine should do nothing else; where it does, --cpu-time gives both sides one thread and
compares the processor time of their processes. All shapes take about 15 minutes. Needs PyTorch 2.4 or later.
"""

import argparse
import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

TURN_MS = 300
STEPS_MIN = 5
# A turn of the smallest shape would be thousands of steps, whose median is known long before.
STEPS_MAX = 300
WARMUP = 3
# With a compiler on both cores, PyTorch's step was seen 7, 11 and 343 ms long on one and the same shape:
# OpenMP's threads meet after every operation, and one without a core holds up the other.
LOAD_MAX = 0.5
# An answer that takes longer is a hung child: the largest shape needs a few seconds a turn.
ANSWER_SECONDS_MAX = 300


def gru(rows, months, inputs, hidden):
    return {"model": "gru", "rows": rows, "months": months, "inputs": inputs, "hidden": hidden}


def mlp(rows, width):
    return {"model": "mlp", "rows": rows, "inputs": 64, "width": width, "layers": 3}


USUAL = [gru(512, 24, 8, 64), mlp(1024, 256)]
QUICK = [gru(128, 12, 32, 32), gru(512, 24, 8, 64), mlp(256, 128), mlp(1024, 256)]
ALL = [gru(*shape) for shape in itertools.product((128, 512, 2048), (12, 24, 36), (8, 32), (32, 64, 128))]
ALL += [mlp(*shape) for shape in itertools.product((256, 1024, 4096), (128, 256, 512))]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, help="5; 3 with --quick")
    parser.add_argument("--model", choices=("mlp", "gru"), help="only its shapes")
    parser.add_argument("--shape", default="", help="only shapes with this in their names, such as 'F32 H128'")
    parser.add_argument("--quick", action="store_true", help="four shapes, under a minute")
    parser.add_argument("--cpu-time", action="store_true",
                        help="one thread on both sides, mean processor time of a step")
    parser.add_argument("--compile", action="store_true",
                        help="PyTorch's turn is the faster of eager and compiled (half a minute a shape)")
    parser.add_argument("--devices", help="also our own backends beside each other, such as cpu,ndarray,gpu")
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args()
    if args.cpu_time:
        args.threads = 1
    # Before PyTorch and its OpenMP are loaded, which read it once.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    result = {"cpu": cpu(), "threads": args.threads, "torch": torch.__version__, "churn": version(args.churn),
              "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"), "load": os.getloadavg()[0]}
    print(f"{result['cpu']}, {result['threads']} threads, PyTorch {result['torch']}, {result['churn']}, "
          f"{result['utc']}, load {result['load']:.1f} before\n")
    if result["load"] > LOAD_MAX and not args.cpu_time:
        print("The machine is busy: PyTorch's threads wait for each other and its figures are too high.\n")
    with Ours(args.churn, args.threads) as ours:
        result["shapes"] = compare(ours, args)
        if args.devices:
            result["devices"] = devices(ours, args.devices.split(","))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print()
    for model in [args.model] if args.model else ("gru", "mlp"):
        ratios = [shape["ratio"] for shape in result["shapes"] if shape["request"]["model"] == model]
        if not ratios:
            continue
        print(f"{model} median ratio {median(ratios):.2f} range {min(ratios):.1f}-{max(ratios):.1f}")


def compare(ours, args):
    """Prints and returns one row per shape."""
    print("| shape | ours ms | PyTorch ms | its threads | ratio | range | our loss | PyTorch loss |")
    print("|---|---|---|---|---|---|---|---|")
    shapes = []
    for shape in QUICK if args.quick else ALL:
        if args.model not in (None, shape["model"]) or args.shape not in name(shape):
            continue
        found = pairs(ours, shape, args)
        ratios = [torch / churn for churn, torch in zip(found["ours_ms"], found["torch_ms"])]
        found |= {"ratios": ratios, "ratio": median(ratios)}
        shapes.append(found)
        print(f"| {name(shape)} | {median(found['ours_ms']):.2f} | {median(found['torch_ms']):.2f} | "
              f"{found['torch_threads']} | {found['ratio']:.2f} | {min(ratios):.1f}-{max(ratios):.1f} | "
              f"{fall(found['ours_loss'])} | {fall(found['torch_loss'])} |", flush=True)
    return shapes


def pairs(ours, shape, args):
    """Turns of all sides, and what came of them."""
    sides = {"ours": ours.turn, "torch": bench(shape).turn}
    threads = best_threads(sides["torch"], shape, args.threads)
    if args.compile and (turn := compiled_turn(shape)):
        sides["compiled"] = turn
    steps = {side: steps_of_turn(turn, shape) for side, turn in sides.items()}
    found = {"request": shape, "steps": steps, "torch_threads": threads, "ours_ms": [], "torch_ms": []}
    for _ in range(args.pairs or (3 if args.quick else 5)):
        answers = {side: turn(request(shape, steps[side])) for side, turn in sides.items()}
        ms = {side: answer["cpu_ms"] if args.cpu_time else median(answer["step_ms"])
              for side, answer in answers.items()}
        found["ours_ms"].append(ms.pop("ours"))
        found["torch_ms"].append(min(ms.values()))
        found.setdefault("eager_ms", []).append(ms["torch"])
        if "compiled" in ms:
            found.setdefault("compiled_ms", []).append(ms["compiled"])
    for side in ("ours", "torch"):
        found[f"{side}_loss"] = [answers[side]["loss_first"], answers[side]["loss_last"]]
    parameters = {answer["parameters"] for answer in answers.values()}
    if len(parameters) != 1:
        sys.exit(f"{name(shape)}: the two models are not the same, they have {parameters} parameters")
    return found


def bench(shape, compiled=False):
    from torch_step import Bench
    return Bench(request(shape, 0), compiled)


def best_threads(turn, shape, threads):
    """Sets and returns how many threads PyTorch is faster with. On two quiet cores nn.GRU gains nothing by the
    second: 17.6 ms with one, 18.5 with both for B512 T24 F8 H64, 2.3 and 2.5 for B128 T12 F32 H32."""
    import torch

    def step_ms(count):
        torch.set_num_threads(count)
        return min(turn(request(shape, STEPS_MIN))["step_ms"])

    best = min({threads, 1}, key=step_ms)
    torch.set_num_threads(best)
    return best


def compiled_turn(shape):
    """A turn of the compiled step, or None and a line that says why it does not compile."""
    import torch
    torch._dynamo.reset()
    try:
        # By default torch.compile leaves nn.GRU as it is.
        torch._dynamo.config.allow_rnn = True
        found = bench(shape, compiled=True)
        found.turn(request(shape, 1))
        return found.turn
    except Exception as error:  # Inductor, its C++ compiler and dynamo each raise their own.
        reason = (str(error).splitlines() or [""])[0]
        print(f"{name(shape)} does not compile: {type(error).__name__}: {reason}", file=sys.stderr)
        return None


def steps_of_turn(turn, shape):
    ms = min(turn(request(shape, 3))["step_ms"])
    return int(min(max(STEPS_MIN, TURN_MS / ms), STEPS_MAX))


def request(shape, steps):
    return {**shape, "steps": steps, "warmup": WARMUP, "seed": 1}


def devices(ours, names):
    """Prints and returns our step on each device."""
    print(f"\n| ours | {' | '.join(f'{device} ms' for device in names)} |\n|---|{'---|' * len(names)}")
    table = {}
    for shape in USUAL:
        answers = [ours.ask({**request(shape, 20), "device": device}) for device in names]
        cells = [answer.get("error") or f"{median(answer['step_ms']):.2f}" for answer in answers]
        table[name(shape)] = dict(zip(names, answers))
        print(f"| {name(shape)} | {' | '.join(cells)} |", flush=True)
    return table


class Ours:
    """`churn bench`: a JSON request a line in, a JSON answer a line out."""

    def __init__(self, churn, threads):
        self.child = subprocess.Popen([churn, "bench", "--threads", str(threads)], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):  # It may have ended by itself.
            self.child.stdin.close()
        try:
            self.child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def ask(self, request):
        # Each answer is one line, so what is ready to be read is all of it.
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(json.dumps(request) + "\n")
            self.child.stdin.flush()
        ready, _, _ = select.select([self.child.stdout], [], [], ANSWER_SECONDS_MAX)
        line = self.child.stdout.readline() if ready else ""
        if not line:
            sys.exit(f"`churn bench` gave no answer to {request}")
        return json.loads(line)

    def turn(self, request):
        answer = self.ask(request)
        if "error" in answer:
            sys.exit(f"`churn bench` answered {answer['error']} to {request}")
        return answer


def name(shape):
    letters = {"rows": "B", "months": "T", "inputs": "F", "hidden": "H"}
    if shape["model"] == "mlp":
        return f"mlp B{shape['rows']} {shape['inputs']}-{shape['width']}x{shape['layers']}-1"
    return "gru " + " ".join(letter + str(shape[key]) for key, letter in letters.items())


def fall(losses):
    return f"{losses[0]:.3f} to {losses[1]:.3f}"


def cpu():
    """Its name where Linux tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown CPU")


def version(churn):
    return subprocess.run([churn, "--version"], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
