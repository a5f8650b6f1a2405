"""Searches settings with Ray Tune: each trial is a `churn train`, stopped early by successive halving.

    python scripts/ray/tune.py configs/telecom.toml --out runs/search --model mlp --trials 16 \\
        --choose 'models.mlp.width=[32,64,128]' --choose 'train.learning_rate=[0.001,0.003]'

A trial reports every epoch of its run's metrics.jsonl, and once more when it has ended. A trial that is
not worth going on with stops its training by SIGTERM, behind a checkpoint. A `churn` or a worker that is
killed is started again and goes on from the checkpoint of its run, and so does the search with --resume.
--out must be a folder that all nodes see, as `churn` and the tables must; the runs are in its `runs/`.
Prints a line of JSON per trial and the settings of the best one. --address joins a cluster; without it
one of two nodes is started here.

Needs Linux and: pip install -r scripts/ray/requirements.txt
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from cluster import joined
from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler

METRIC = "validation_log_loss"

# Starts of one trial on one worker, and workers of one trial: what always dies is a fault.
STARTS_MAX = 5
WORKERS_MAX = 4

# From SIGTERM to the end: a step, and where the last epoch is over, the evaluation.
STOP_SECONDS_MAX = 300


def stop_file(run):
    """Is there when the trial is not worth going on with."""
    return pathlib.Path(f"{run}.stop")


class Halving(ASHAScheduler):
    """Successive halving whose trials end by themselves. Tune's own stop is none at the end of a search:
    workers have ten seconds then, and a training may need longer to its checkpoint."""

    def on_trial_result(self, controller, trial, result):
        decision = super().on_trial_result(controller, trial, result)
        if decision != self.STOP:
            return decision
        stop_file(result["run"]).touch()
        return self.CONTINUE


class Training(tune.Trainable):
    """A `churn train`. What Tune keeps of it is how far it has reported; the rest is in its run."""

    def setup(self, config):
        self.fixed = config["fixed"]
        self.settings = {name: value for name, value in config.items() if name != "fixed"}
        self.run = pathlib.Path(self.fixed["out"]) / "runs" / self.trial_id
        self.reported, self.starts = 0, 0
        self.start()

    def start(self):
        self.starts += 1
        chosen = [f"{name}={json.dumps(value)}" for name, value in self.settings.items()]
        command = [self.fixed["churn"], "train", self.fixed["config"], "--out", str(self.run)]
        for setting in self.fixed["sets"] + chosen:
            command += ["--set", setting]
        command += ["--device", self.fixed["device"]] + ["--resume"] * self.run.exists()
        # No program goes on in a run that another worker has taken up.
        command = ["setpriv", "--pdeathsig", "KILL", *command]
        environment = os.environ | {"RAYON_NUM_THREADS": str(self.fixed["cpus"])}
        with open(f"{self.run}.log", "a") as log:
            self.child = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.fixed["folder"])

    def losses(self):
        """Of all epochs so far; one that was trained again after a kill counts once."""
        found = {}
        try:
            lines = (self.run / "metrics.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                line = json.loads(line)
            except ValueError:
                continue  # It is being written.
            if line["name"] == f"epoch/{METRIC}":
                loss = math.inf if line["value"] is None else line["value"]
                found[line["model"], line["step"]] = loss
        if len({model for model, _ in found}) > 1:
            raise RuntimeError("the split has several folds; search in one")
        return [found[place] for place in sorted(found)]

    def step(self):
        while True:
            stopped = stop_file(self.run).exists()
            if stopped:
                self.cleanup()
            code, losses = self.child.poll(), self.losses()
            told = {"run": str(self.run), "starts": self.starts}
            if self.reported < len(losses):
                self.reported += 1
                return {METRIC: losses[self.reported - 1], "epoch": self.reported, **told}
            if code == 0:
                return {METRIC: min(losses), "epoch": self.reported, "finished": True,
                        "done": True, **told}
            if stopped:
                return {METRIC: losses[-1] if losses else math.inf, "epoch": self.reported,
                        "done": True, **told}
            if code is not None:
                was_killed = code < 0 or code == 128 + signal.SIGTERM
                if not was_killed or self.starts == STARTS_MAX:
                    # Not raised: Tune would try again what comes out the same.
                    said = pathlib.Path(f"{self.run}.log").read_text().strip().splitlines()
                    fault = f"churn ended with {code}: {said[-1] if said else ''}"
                    return {METRIC: math.inf, "epoch": self.reported, "fault": fault, "done": True,
                            **told}
                self.start()
            time.sleep(0.05)

    def save_checkpoint(self, checkpoint_dir):
        (pathlib.Path(checkpoint_dir) / "reported.json").write_text(json.dumps(self.reported))

    def load_checkpoint(self, checkpoint_dir):
        kept = pathlib.Path(checkpoint_dir) / "reported.json"
        self.reported = json.loads(kept.read_text())

    def cleanup(self):
        self.child.terminate()
        try:
            self.child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("--churn", default=shutil.which("churn") or "target/release/churn")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to make")
    parser.add_argument("--resume", action="store_true", help="go on with the search in --out")
    parser.add_argument("--model", default="hybrid", choices=["static", "mlp", "gru", "hybrid"])
    parser.add_argument("--choose", action="append", default=[], metavar="NAME=[A,B]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--cpus", type=int, default=1, help="of a trial")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs-max", type=int, default=30)
    parser.add_argument("--epochs-min", type=int, default=2, help="before a trial is stopped")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--address", help="of a cluster")
    args = parser.parse_args()
    for path in [args.config, pathlib.Path(args.churn)]:
        if not path.exists():
            parser.error(f"{path}: is not there")
    if args.out.exists() != args.resume:
        parser.error(f"{args.out}: " + (
            "is not there, so that nothing can be resumed" if args.resume else
            "is there; go on with --resume, or remove it first"))
    args.out = args.out.resolve()
    return parser, args


def space(parser, args):
    own = [f'models.use=["{args.model}"]', f"models.champion={args.model}", "models.trees=false",
           f"train.epochs_max={args.epochs_max}"]
    found = {"fixed": {"churn": str(pathlib.Path(args.churn).resolve()), "out": str(args.out),
                       "config": str(args.config.resolve()), "sets": own + args.set,
                       "folder": os.getcwd(), "device": args.device, "cpus": args.cpus}}
    for choice in args.choose:
        name, _, values = choice.partition("=")
        try:
            (first, *more) = json.loads(values)
        except (ValueError, TypeError):
            parser.error(f"--choose {choice}: expected NAME=[A,B,...] with values of JSON")
        found[name] = tune.choice([first, *more])
    return found


def tuner(parser, args):
    training = tune.with_resources(Training, {"cpu": args.cpus})
    if args.resume:
        return tune.Tuner.restore(str(args.out / "tune"), training, resume_errored=True)
    param_space = space(parser, args)
    (args.out / "runs").mkdir(parents=True)
    return tune.Tuner(
        training,
        param_space=param_space,
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="min", num_samples=args.trials,
            # An epoch more, which stops nobody: a training ends by itself.
            scheduler=Halving(
                "epoch", max_t=args.epochs_max + 1, grace_period=args.epochs_min),
            search_alg=tune.search.BasicVariantGenerator(random_state=args.seed)),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(args.out), verbose=0, callbacks=[JsonLoggerCallback()],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1),
            failure_config=tune.FailureConfig(max_failures=WORKERS_MAX - 1)))


def chosen(result):
    return {name: value for name, value in result.config.items() if name != "fixed"}


def main():
    parser, args = arguments()
    # A run has its own files for TensorBoard.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # Tune greets on stdout.
    with joined(args.address), contextlib.redirect_stdout(sys.stderr):
        results = tuner(parser, args).fit()
    faults = 0
    for result in results:
        told = result.metrics or {}
        fault = told.get("fault") or (str(result.error) if result.error else None)
        faults += fault is not None
        print(json.dumps({
            "run": told.get("run"), METRIC: told.get(METRIC), "epochs": told.get("epoch"),
            "finished": told.get("finished", False), "starts": told.get("starts"), "error": fault,
            "settings": chosen(result)}))
    if faults == len(results):
        sys.exit("no trial has a result")
    best = results.get_best_result(METRIC, "min", scope="all")
    settings = " ".join(f"--set {name}={json.dumps(value)}" for name, value in chosen(best).items())
    print(f"best: {best.metrics['run']} {settings}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
