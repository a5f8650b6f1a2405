#!/usr/bin/env python3
"""Read TensorBoard event files with TensorBoard's own reader and say what is in them.

    scripts/check_tensorboard.py runs/<id>/tensorboard

Prints, for every folder with events, each scalar (number of points, last step, last value) and
the hyper-parameters. Exit code 1 when there is no scalar or no hyper-parameter anywhere, or when a
file holds a record that the reader stops at. Needs the Python package `tensorboard`.
"""

import argparse
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams


def records(path):
    """Number of records by their framing alone: TensorBoard's reader ends silently at a bad one."""
    data, at, n = path.read_bytes(), 0, 0
    while at < len(data):
        if len(data) - at < 16:
            return n, False
        (length,) = struct.unpack_from("<Q", data, at)
        at, n = at + 16 + length, n + 1
    return n, at == len(data)


def value_of(value):
    """A google.protobuf.Value as text."""
    kind = value.WhichOneof("kind")
    return "null" if kind in (None, "null_value") else f"{getattr(value, kind)}"


def check(folder, root):
    """Print one folder; return its numbers of scalars and hyper-parameters, and whether it is whole."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    print(f"{folder.relative_to(root) if folder != root else '.'}")
    whole = True
    for path in sorted(folder.glob("*tfevents*")):
        n, ok = records(path)
        whole &= ok
        print(f"  file {path.name}: {n} records, {'whole' if ok else 'BROKEN'}")
    points = 0
    for tag in sorted(reader.Tags()["scalars"]):
        events = reader.Scalars(tag)
        points += len(events)
        last = events[-1]
        print(f"  scalar {tag}: {len(events)} points, last {last.value:.6g} at step {last.step}")
    settings = {}
    try:
        contents = reader.PluginTagToContent(hparams.PLUGIN_NAME)
    except KeyError:
        contents = {}
    for tag, content in contents.items():
        if tag == hparams.SESSION_START_INFO_TAG:
            settings.update(hparams.parse_session_start_info_plugin_data(content).hparams)
    for name in sorted(settings):
        print(f"  hparam {name} = {value_of(settings[name])}")
    return points, len(settings), whole


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder
    folders = sorted({path.parent for path in root.rglob("*tfevents*")})
    found = [check(folder, root) for folder in folders]
    scalars, settings = sum(f[0] for f in found), sum(f[1] for f in found)
    whole = all(f[2] for f in found)
    print(f"{len(folders)} folders, {scalars} points, {settings} hyper-parameters")
    return 0 if scalars and settings and whole else 1


if __name__ == "__main__":
    sys.exit(main())
