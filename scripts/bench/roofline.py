#!/usr/bin/env python3
"""How near training steps come to what the machine's products can reach.

    python3 scripts/bench/roofline.py [--churn target/release/churn] [--threads 2] [--cpu-time] [--repeat 3]
        [--json FILE]

For each shape, one child of `churn bench` times the training step (forward, loss, backward, AdamW) and, in turn
with it, every product that the step consists of by the `gemm` crate alone: y = x W, d_x = d_y W^T and
d_W = x^T d_y of each layer, the GRU's recurrent products month by month. Both figures are GFLOP/s of the same
multiplications and additions: the step's has all of its time below, gemm's only that of the products. For the
MLP's layers it also times our dense layer, which adds the bias, applies relu and masks the gradient. On a busy
machine, --cpu-time takes one thread and its processor time.

The last lines are the medians over the shapes, `mlp median share of gemm 0.83 range 0.7-0.9`.
"""

import argparse
import json
from pathlib import Path
from statistics import median

from train_speed import Ours, cpu, gru, mlp, name, version

SHAPES = [mlp(rows, width) for rows in (256, 1024, 4096) for width in (128, 256, 512)]
SHAPES += [gru(rows, 24, 8, hidden) for rows in (128, 512, 2048) for hidden in (32, 64, 128)]
# Each figure is the median of as many steps or products as take about this long.
TURN_MS = 150
STEPS_MIN, STEPS_MAX = 5, 300


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="one thread, processor time")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each shape; figures are medians")
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args()
    if args.cpu_time:
        args.threads = 1

    print(f"{cpu()}, {args.threads} threads, {version(args.churn)}\n")
    print("| shape | GFLOP | step ms | step GFLOP/s | products by gemm ms | gemm GFLOP/s | share of gemm |")
    print("|---|---|---|---|---|---|---|")
    rows, layers = [], {}
    with Ours(args.churn, args.threads) as ours:
        for shape in SHAPES:
            found = roof(ours, shape, args, layers)
            rows.append(found)
            print(f"| {name(shape)} | {found['gflop']:.3f} | {found['step_ms']:.2f} | {found['step_gflops']:.0f} | "
                  f"{found['gemm_ms']:.2f} | {found['gemm_gflops']:.0f} | {found['share']:.2f} |", flush=True)
    print("\n| dense layer | forward, gemm | ours | backward, gemm | ours |\n|---|---|---|---|---|")
    for (batch, inputs, outputs), times in layers.items():
        ms = {what: median(all_ms) for what, all_ms in times.items()}
        flop = 2e-6 * batch * inputs * outputs
        print(f"| B{batch} {inputs} to {outputs} | {flop / ms['y_ms']:.0f} | {flop / ms['forward_ms']:.0f} | "
              f"{2 * flop / (ms['d_x_ms'] + ms['d_weight_ms']):.0f} | {2 * flop / ms['backward_ms']:.0f} |")
    if args.json:
        args.json.write_text(json.dumps({"cpu": cpu(), "threads": args.threads, "shapes": rows}, indent=1) + "\n")
    print()
    for model in ("gru", "mlp"):
        shares = [row["share"] for row in rows if row["shape"]["model"] == model]
        print(f"{model} median share of gemm {median(shares):.2f} range {min(shares):.2f}-{max(shares):.2f}")


def roof(ours, shape, args, layers):
    """The step and the products it consists of, timed in turn."""
    step_ms, gemm_ms = [], []
    for _ in range(args.repeat):
        step_ms.append(timed(ours, {**shape, "cpu_time": args.cpu_time})["step_ms"])
        total = 0.0
        for (rows, inputs, outputs), times, which in products(shape):
            ms = timed(ours, {"model": "product", "rows": rows, "inputs": inputs, "outputs": outputs,
                              "cpu_time": args.cpu_time})
            total += times * sum(ms[product] for product in which)
            if shape["model"] == "mlp" and outputs > 1:
                of_layer = layers.setdefault((rows, inputs, outputs), {})
                for what, value in ms.items():
                    of_layer.setdefault(what, []).append(value)
        gemm_ms.append(total)
    gflop = sum(2e-9 * rows * inputs * outputs * times * len(which)
                for (rows, inputs, outputs), times, which in products(shape))
    step, gemm = median(step_ms), median(gemm_ms)
    return {"shape": shape, "gflop": gflop, "step_ms": step, "gemm_ms": gemm, "step_gflops": 1e3 * gflop / step,
            "gemm_gflops": 1e3 * gflop / gemm, "share": gemm / step}


def products(shape):
    """Sizes of the step's products, how often each is made, and which of a layer's three. The inputs of a
    network are constants, whose gradient nobody needs."""
    both, all_three = ["y_ms", "d_weight_ms"], ["y_ms", "d_x_ms", "d_weight_ms"]
    rows = shape["rows"]
    if shape["model"] == "mlp":
        width = shape["width"]
        hidden = [((rows, width, width), shape["layers"] - 1, all_three)]
        return [((rows, shape["inputs"], width), 1, both), *hidden, ((rows, width, 1), 1, all_three)]
    months, units = shape["months"], shape["hidden"]
    # Month by month, states times recurrent weights and back; the gradient of these weights in one product over
    # all months.
    return [((rows * months, shape["inputs"], 3 * units), 1, both),
            ((rows, units, 3 * units), months, ["y_ms", "d_x_ms"]),
            ((rows * months, units, 3 * units), 1, ["d_weight_ms"]),
            ((rows * months, units, 1), 1, all_three)]


def timed(ours, case):
    """Medians of a turn, by what was timed."""
    def turn(steps, warmup):
        answer = ours.turn({**case, "steps": steps, "warmup": warmup, "seed": 1})
        return {what: median(ms) for what, ms in answer.items() if what.endswith("_ms") and isinstance(ms, list)}

    once = turn(3, 1)
    return turn(int(min(max(STEPS_MIN, TURN_MS / sum(once.values())), STEPS_MAX)), 3)


if __name__ == "__main__":
    main()
