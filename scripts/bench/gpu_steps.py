#!/usr/bin/env python3
"""Training steps on a GPU: ours (wgpu) beside PyTorch's (CUDA), same shapes, f32.

    python3 scripts/bench/gpu_steps.py [--churn target/release/churn] [--device gpu] [--model mlp|gru]
        [--quick] [--steps 60] [--seconds 400] [--no-torch] [--json FILE]

A step is that of train_speed.py: forward, mean binary cross-entropy, backward and AdamW on a batch that lies in
the GPU's memory. Both sides wait for the GPU after every step, and a figure is the median of the last half of the
steps. "first" is what our side takes from the request until its first timed step: the network, the batch and, for
shapes that the process has not seen, the kernels' compilation. PyTorch is torch_step.py: eager nn.GRU (cuDNN) and
nn.Linear, fused AdamW, no TF32, since ours computes in f32. "loss" is how far our loss after all steps is from that
of our CPU backend on the same batch and weights, which says whether the GPU computed the same (--check).
The script stops before --seconds are over and says which shapes it left out.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from train_speed import ALL, QUICK, Ours, name, version

WARMUP = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--churn", default="target/release/churn")
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--model", choices=("mlp", "gru"), help="only its shapes")
    parser.add_argument("--quick", action="store_true", help="four shapes")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=400, help="budget for all shapes")
    parser.add_argument("--no-torch", action="store_true", help="ours alone")
    parser.add_argument("--check", action="store_true", help="also our CPU backend, for the losses")
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args()
    start = time.monotonic()
    shapes = [shape for shape in (QUICK if args.quick else ALL) if args.model in (None, shape["model"])]
    torch_step_ms = None if args.no_torch else torch_side(args.steps)
    print(f"{version(args.churn)}\n")
    print("| shape | ours ms | first s | PyTorch ms | ratio | loss |\n|---|---|---|---|---|---|")
    rows = []
    with Ours(args.churn, 0) as ours:
        for shape in shapes:
            if time.monotonic() - start > args.seconds:
                print(f"\nleft out for want of time: {', '.join(name(shape) for shape in shapes[len(rows):])}")
                break
            rows.append(one(ours, shape, torch_step_ms, args))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if rows:
        print(f"\nours on {rows[0]['device']}")
    for model in ("gru", "mlp"):
        ratios = [row["ratio"] for row in rows if row["request"]["model"] == model and row["ratio"]]
        if ratios:
            print(f"{model} median ratio {statistics.median(ratios):.2f} range {min(ratios):.2f}-{max(ratios):.2f}")


def one(ours, shape, torch_step_ms, args):
    request = {**shape, "steps": args.steps, "warmup": WARMUP, "seed": 1, "device": args.device}
    asked = time.monotonic()
    answer = ours.turn(request)
    seconds = time.monotonic() - asked
    step_ms = last_half(answer["step_ms"])
    first = seconds - sum(answer["step_ms"]) / 1e3
    torch_ms = torch_step_ms(shape) if torch_step_ms else None
    ratio = torch_ms / step_ms if torch_ms else None
    apart = None
    if args.check:
        apart = abs(ours.turn({**request, "device": "cpu"})["loss_last"] - answer["loss_last"])
    cell = lambda value, form: "" if value is None else format(value, form)
    print(f"| {name(shape)} | {step_ms:.2f} | {first:.1f} | {cell(torch_ms, '.2f')} | {cell(ratio, '.2f')} | "
          f"{cell(apart, '.0e')} |", flush=True)
    return {"request": shape, "ours_ms": step_ms, "first_s": first, "torch_ms": torch_ms, "ratio": ratio,
            "loss_apart": apart, "loss_last": answer["loss_last"], "device": answer["device"]}


def torch_side(steps):
    """A function from a shape to PyTorch's milliseconds a step."""
    import torch

    from torch_step import Bench
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device; --no-torch times ours alone")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_default_device("cuda")
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}")

    def step_ms(shape):
        bench = Bench({**shape, "seed": 1})
        optimizer = torch.optim.AdamW(bench.model.parameters(), fused=True)
        times = []
        for _ in range(WARMUP + steps):
            torch.cuda.synchronize()
            before = time.perf_counter()
            bench.step(optimizer)
            torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - before))
        return last_half(times)

    return step_ms


def last_half(times):
    return statistics.median(times[len(times) // 2:])


if __name__ == "__main__":
    main()
