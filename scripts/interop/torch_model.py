"""A model of churn as PyTorch modules: raw customers in, calibrated risk out.

    churn export runs/a --format safetensors --out model.safetensors
    churn score --bundle runs/a/bundle --input tables --output scores.csv --rows rows.jsonl
    python scripts/interop/torch_model.py model.safetensors rows.jsonl

prints customer, our risk and PyTorch's. As a library:

    model = torch_model.load("model.safetensors")
    risks = model.risk(customers)                     # dicts in the form of rows.jsonl
    gru = model.networks["gru"]                       # an nn.Module, to look at or to train on

The file holds the weights under the names of the modules below, and as its metadata the fitted
features (`Features`, in numpy), the architectures and the calibration.

Needs: pip install torch numpy safetensors
"""

import datetime
import json
import sys

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

FORMAT_VERSION = 1
DAYS_PER_MONTH = 30.436875
ROWS_PER_CALL = 4096


def load(path):
    with safetensors.safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["churn"])
    if facts["format_version"] != FORMAT_VERSION:
        sys.exit(f"{path} has format {facts['format_version']}, expected {FORMAT_VERSION}")
    model = Model(facts)
    model.networks.load_state_dict(safetensors.torch.load_file(path))
    return model


class Model:
    def __init__(self, facts):
        self.facts = facts
        self.features = Features(facts["features"], facts["columns"])
        self.networks = nn.ModuleDict(
            {member["name"]: network(member["architecture"]) for member in facts["members"]}
        ).eval()

    def risk(self, customers):
        """Calibrated risks in 64 bits, in the order of the customers."""
        parts = [customers[at:at + ROWS_PER_CALL] for at in range(0, len(customers), ROWS_PER_CALL)]
        return np.concatenate([self._risk(part) for part in parts]) if parts else np.empty(0)

    @torch.no_grad()
    def _risk(self, customers):
        batch = self.features.encode(customers)
        mean = 0.0
        for member in self.facts["members"]:
            shape = member["architecture"]
            outputs = self.networks[member["name"]](batch) + np.float32(member["log_odds_shift"])
            members = 1 if shape["kind"] in ("gru", "hybrid") else shape["mlp"]["members"]
            log_odds = window(outputs.double().view(-1, members, shape["hazards"]))
            mean = mean + member["weight"] * log_odds
        return torch.sigmoid(calibrate(self.facts["calibrator"], mean)).numpy()


def window(x):
    """Hazards' log-odds [N, members, K] to the log-odds of churn in the window, [N]: that of the
    members' mean risk."""
    if x.shape[1] * x.shape[2] == 1:
        return x[:, 0, 0]
    cumulative = nn.functional.softplus(x).sum(2)
    least = torch.finfo(torch.float64).tiny
    risk = (-torch.expm1(-cumulative)).mean(1).clamp(min=least)
    staying = torch.exp(-cumulative).mean(1).clamp(min=least)
    return risk.log() - staying.log()


def calibrate(calibrator, x):
    kind = calibrator["kind"]
    if kind == "temperature":
        return calibrator["center"] + calibrator["slope"] * (x - calibrator["center"])
    if kind == "platt":
        return calibrator["slope"] * x + calibrator["intercept"]
    if kind == "isotonic":
        first, last = calibrator["from"][0], calibrator["from"][-1]
        between = np.interp(x.numpy(), calibrator["from"], calibrator["to"])
        return torch.from_numpy(between) + (x - first).clamp(max=0) + (x - last).clamp(min=0)
    return x


# The networks. Batches are dicts: fixed [N, F] and snapshot [N, F], codes [N, C], months [N, T, F]
# with histories at the front of T, length [N].


def network(shape):
    return {"static": Mlp, "mlp": Mlp, "gru": Gru, "hybrid": Hybrid}[shape["kind"]](shape)


class Pieces(nn.Module):
    """Piecewise-linear embeddings of numbers (Gorishniy et al. 2022)."""

    def __init__(self, borders, width):
        super().__init__()
        bins = max(len(one) for one in borders) - 1
        lows = torch.zeros(len(borders), bins)
        inverses = torch.zeros(len(borders), bins)
        for at, one in enumerate(torch.tensor(one) for one in borders):
            lows[at, : len(one) - 1] = one[:-1]
            inverses[at, : len(one) - 1] = 1 / (one[1:] - one[:-1])
        self.register_buffer("lows", lows, persistent=False)
        self.register_buffer("inverses", inverses, persistent=False)
        self.weight = nn.Parameter(torch.zeros(len(borders), bins, width))
        self.slope = nn.Parameter(torch.zeros(len(borders), width))
        self.bias = nn.Parameter(torch.zeros(len(borders), width))

    def forward(self, x):
        share = ((x[:, :, None] - self.lows) * self.inverses).clamp(0, 1)
        x = torch.einsum("nfe,fed->nfd", share, self.weight) + x[:, :, None] * self.slope + self.bias
        return x.flatten(1)


class Inputs(nn.Module):
    """Embedded numbers, numbers as they are, embedded categories."""

    def __init__(self, shape):
        super().__init__()
        borders = shape["borders"]
        self.binned = [at for at, one in enumerate(borders) if one]
        self.plain = [at for at, one in enumerate(borders) if not one]
        if self.binned:
            width = shape["mlp"]["piece_width"]
            self.pieces = Pieces([borders[at] for at in self.binned], width)
        most = shape["mlp"]["embedding_max"]
        widths = [max(1, min((codes + 1) // 2, most)) for codes in shape["categories"]]
        self.embeddings = nn.ModuleList(map(nn.Embedding, shape["categories"], widths))
        columns = len(self.plain) if borders else 1
        self.width = len(self.binned) * shape["mlp"]["piece_width"] + columns + sum(widths)

    def forward(self, numbers, codes):
        if numbers.shape[1] == 0:
            numbers = numbers.new_zeros(len(numbers), 1)
            parts = [numbers]
        else:
            parts = [self.pieces(numbers[:, self.binned])] if self.binned else []
            parts.append(numbers[:, self.plain])
        parts += [embed(codes[:, at]) for at, embed in enumerate(self.embeddings)]
        return torch.cat(parts, 1)


class Scale(nn.Module):
    """What each member multiplies its inputs with."""

    def __init__(self, members, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, width))

    def forward(self, x):
        return x[:, None, :] * self.weight


class Heads(nn.Module):
    """A linear layer of each member's own; row m K + j of the weight is member m's month j."""

    def __init__(self, members, hazards, width):
        super().__init__()
        self.members = members
        self.weight = nn.Parameter(torch.zeros(members * hazards, width))
        self.bias = nn.Parameter(torch.zeros(members * hazards))

    def forward(self, x):
        weight = self.weight.view(self.members, -1, x.shape[2])
        return torch.einsum("nmw,mkw->nmk", x, weight).flatten(1) + self.bias


class Mlp(nn.Module):
    """Members that share all layers (TabM-mini, Gorishniy et al. 2024)."""

    def __init__(self, shape):
        super().__init__()
        mlp = shape["mlp"]
        self.kind, self.early = shape["kind"], mlp["early"]
        self.inputs = Inputs(shape)
        widths = [self.inputs.width] + [mlp["width"]] * mlp["blocks"]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.scale = Scale(mlp["members"], widths[0] if self.early else mlp["width"])
        self.head = Heads(mlp["members"], shape["hazards"], mlp["width"])

    def forward(self, batch):
        numbers = batch["fixed" if self.kind == "static" else "snapshot"]
        x = self.inputs(numbers, batch["codes"])
        if self.early:
            x = self.scale(x)
        for at, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            if at == 0 and not self.early:
                x = self.scale(x)
        return self.head(x)


def history(gru, pooled, batch, start=None):
    """The last state of each history, and beside it mean and largest value over its months."""
    states, _ = gru(batch["months"], start)
    length = batch["length"]
    last = states[torch.arange(len(states)), length - 1]
    if not pooled:
        return last
    shown = (torch.arange(states.shape[1]) < length[:, None])[:, :, None]
    mean = (states * shown).sum(1) / length[:, None]
    most = states.masked_fill(~shown, -2.0).amax(1)
    return torch.cat([last, mean, most], 1)


def recurrent(shape):
    spec = shape["gru"]
    gru = nn.GRU(shape["months"], spec["hidden"], spec["layers"], batch_first=True)
    pooled = spec["history"] == "pooled"
    return gru, pooled, spec["hidden"] * (3 if pooled else 1)


class Gru(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gru, self.pooled, width = recurrent(shape)
        self.head = nn.Linear(width, shape["hazards"])

    def forward(self, batch):
        return self.head(history(self.gru, self.pooled, batch))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, width)
        self.back = nn.Linear(width, width)

    def forward(self, x):
        return x + self.back(torch.relu(self.wide(self.norm(x))))


class Trunk(nn.Module):
    """The static branch."""

    def __init__(self, shape):
        super().__init__()
        width = shape["mlp"]["width"]
        self.inputs = Inputs(shape)
        self.input = nn.Linear(self.inputs.width, width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(shape["mlp"]["blocks"]))
        self.norm = nn.LayerNorm(width)

    def forward(self, batch):
        x = self.input(self.inputs(batch["fixed"], batch["codes"]))
        for block in self.blocks:
            x = block(x)
        return torch.relu(self.norm(x))


class Gate(nn.Module):
    def __init__(self, history, width):
        super().__init__()
        self.of_state = nn.Linear(history, width)
        self.of_static = nn.Linear(width, width, bias=False)


class Hybrid(nn.Module):
    def __init__(self, shape):
        super().__init__()
        spec, width = shape["gru"], shape["mlp"]["width"]
        self.fusion, self.layers = spec["fusion"], spec["layers"]
        self.trunk = Trunk(shape)
        self.gru, self.pooled, states = recurrent(shape)
        self.from_state = nn.Linear(states, width)
        starts = spec["layers"] * spec["hidden"]
        self.from_static = nn.Linear(width, starts if self.fusion == "initial" else width, bias=False)
        if self.fusion == "gated":
            self.gate = Gate(states, width)
        self.head = nn.Linear(width, shape["hazards"])

    def forward(self, batch):
        fixed = self.trunk(batch)
        of_static = self.from_static(fixed)
        if self.fusion == "initial":
            start = torch.stack(torch.tanh(of_static).chunk(self.layers, 1))
            joined = self.from_state(history(self.gru, self.pooled, batch, start))
            return self.head(torch.relu(joined))
        states = history(self.gru, self.pooled, batch)
        joined = self.from_state(states)
        if self.fusion == "gated":
            gate = torch.sigmoid(self.gate.of_state(states) + self.gate.of_static(fixed))
            joined = gate * joined + (1 - gate) * of_static
        else:
            joined = joined + of_static
        return self.head(torch.relu(joined))


# The features, from raw customers.


class Features:
    def __init__(self, fitted, columns):
        self.fitted, self.columns = fitted, columns

    def encode(self, customers):
        fitted, columns = self.fitted, self.columns
        attributes = [Attributes(customer) for customer in customers]
        length = np.array([customer["length"] for customer in customers])
        months = np.arange(length.max())
        first = np.array([month_number(customer["start"]) for customer in customers])
        levels = np.full((len(customers), len(months), len(columns["measures"])), np.nan, np.float32)
        for row, customer in enumerate(customers):
            for at, measure in enumerate(columns["measures"]):
                levels[row, : length[row], at] = [
                    np.nan if x is None else x for x in customer["months"][measure]
                ]
        fixed = np.array(
            [[of.number(column) for column in columns["static_numbers"]] for of in attributes],
            np.float32,
        ).reshape(len(customers), -1)
        codes = np.array(
            [
                [code(category, of.at(column, None)) for category, column in
                 zip(fitted["static_categories"], columns["static_categories"])]
                for of in attributes
            ],
            np.int64,
        ).reshape(len(customers), -1)
        fixed = scale(fitted["static_numbers"], fixed)
        month = self.months(levels, first[:, None] + months, attributes, length)
        last = month[np.arange(len(customers)), length - 1]
        aggregates = scale(fitted["window_numbers"], self.windows(levels, length))
        batch = {
            "fixed": fixed,
            "codes": codes,
            "months": month,
            "length": length,
            "snapshot": np.concatenate([fixed, last, aggregates], 1),
        }
        return {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in batch.items()}

    def months(self, levels, now, attributes, length):
        """[N, T, F]; `now` are the months, counted from January of year 0."""
        columns, (rows, months, measures) = self.columns, levels.shape
        since = np.broadcast_to(np.arange(months, dtype=np.float32), (rows, months))
        active = np.isfinite(levels) & (levels != 0)
        place = np.where(active, since[:, :, None], np.float32(-1))
        last = np.maximum.accumulate(place, 1) if months else place
        before = [back(levels, by) for by in (1, 2, 3)]
        kinds = [levels, levels - before[0], levels - mean(before), since[:, :, None] - last]
        parts = [np.stack(kinds, 3).reshape(rows, months, 4 * measures)]
        if columns["dated"]:
            parts.append(since[:, :, None])
        if columns["calendar"]:
            angle = np.float32(2 * np.pi) * (now % 12).astype(np.float32) / np.float32(12)
            # Rounded once: the sine of half a turn is 1e-7, and may be a bin's border.
            turns = [np.sin(angle.astype(np.float64)), np.cos(angle.astype(np.float64))]
            parts += [turn.astype(np.float32)[:, :, None] for turn in turns]
        for column in columns["dated_numbers"]:
            cells = np.full((rows, months, 1), np.nan, np.float32)
            for row, of in enumerate(attributes):
                for t in range(length[row]):
                    month = int(now[row, t]) if columns["dated"] else None
                    cells[row, t] = of.dated(column, month)
            parts.append(cells)
        scaled = [scale(self.fitted["month_numbers"], np.concatenate(parts, 2))]
        for category, column in zip(self.fitted["month_categories"], columns["dated_categories"]):
            one_hot = np.zeros((rows, months, len(category["values"]) + 2), np.float32)
            for row, of in enumerate(attributes):
                for t in range(length[row]):
                    one_hot[row, t, code(category, of.at(column, int(now[row, t])))] = 1
            scaled.append(one_hot)
        return np.concatenate(scaled, 2).astype(np.float32)

    def windows(self, levels, length):
        """Mean, min, max, standard deviation and slope of each measure over each window."""
        rows, _, measures = levels.shape
        found = []
        for size in self.fitted["spec"]["windows"]:
            places = length[:, None] - size + np.arange(size)
            t = np.maximum(places, 0)
            x = levels[np.arange(rows)[:, None], t]
            x = np.where((places >= 0)[:, :, None], x, np.nan).astype(np.float64)
            # Counted from the window's first month that the customer has.
            t = (t - np.maximum(length - size, 0)[:, None]).astype(np.float64)[:, :, None]
            there = ~np.isnan(x)
            known = np.where(there, x, 0.0)
            t = np.where(there, t, 0.0)
            n, of_x, of_xx, of_t, of_tt, of_tx = (
                in_order(terms) for terms in (there, known, known * known, t, t * t, t * known)
            )
            with np.errstate(invalid="ignore", divide="ignore"):
                average = of_x / n
                spread = of_tt - of_t * of_t / n
                slope = np.where(spread > 0, (of_tx - of_t * average) / spread, 0.0)
                variance = np.maximum(of_xx / n - average * average, 0)
            least = np.where(there, x, np.inf).min(1)
            most = np.where(there, x, -np.inf).max(1)
            kinds = [average, least, most, np.sqrt(variance), slope]
            found += [np.where(n == 0, np.nan, kind) for kind in kinds]
        if not found:
            return np.empty((rows, 0), np.float32)
        return np.stack(found, 2).reshape(rows, measures * len(found)).astype(np.float32)


def in_order(terms):
    """Sums over the months one by one: a standard deviation of nearly equal values is what is left
    of rounding, and a narrow bin makes much of it."""
    total = np.zeros((terms.shape[0], terms.shape[2]))
    for month in range(terms.shape[1]):
        total += terms[:, month]
    return total


class Attributes:
    """The attribute rows of a customer."""

    def __init__(self, customer):
        self.versions = customer["attributes"]

    def at(self, column, month):
        """The cell that holds at the end of a month; None for the oldest one."""
        found = None
        for version in self.versions:
            if version["source"] != column["source"]:
                continue
            begins = version.get("valid_from")
            if month is None:
                return version["values"].get(column["name"])
            if begins is None or month_number(begins) <= month:
                found = version["values"].get(column["name"])
        return found

    def number(self, column):
        value = self.at(column, None)
        return np.nan if value is None else value

    def dated(self, column, month):
        value = self.at(column, month)
        if value is None or not column["date"]:
            return np.nan if value is None else value
        day = (datetime.date.fromisoformat(value) - datetime.date(1970, 1, 1)).days
        if month is None:
            return np.float32(day) / np.float32(DAYS_PER_MONTH)
        year, of_year = divmod(month + 1, 12)
        days = (datetime.date(year, of_year + 1, 1) - datetime.date(1970, 1, 1)).days - day
        return np.float32(days) / np.float32(DAYS_PER_MONTH) if days > 0 else np.nan


def month_number(text):
    if text is None:
        return 0
    year, month = text.split("-")
    return int(year) * 12 + int(month) - 1


def code(category, value):
    if value is None:
        return 0
    values = category["values"]
    return values.index(value) + 2 if value in values else 1


def back(levels, by):
    """What stood `by` months earlier."""
    empty = np.full_like(levels[:, :by], np.nan)
    return np.concatenate([empty, levels], 1)[:, : levels.shape[1]]


def mean(values):
    total, count = 0, 0
    for value in values:
        total = total + np.where(np.isnan(value), np.float32(0), value)
        count = count + ~np.isnan(value)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / count.astype(np.float32)


def scale(numbers, raw):
    """Scaled numbers, then the missing indicators, along the last axis."""
    values = [apply(number, raw[..., at]) for at, number in enumerate(numbers)]
    flags = [np.isnan(raw[..., at]) for at, number in enumerate(numbers) if number["indicator"]]
    columns = values + flags
    if not columns:
        return np.empty((*raw.shape[:-1], 0), np.float32)
    return np.stack(columns, -1).astype(np.float32)


def apply(number, raw):
    x = np.where(np.isnan(raw), np.float32(0), raw)
    if number["log"]:
        x = np.sign(x) * np.log1p(np.abs(x.astype(np.float64))).astype(np.float32)
    (kind, of), = number["map"].items()
    if kind == "quantile":
        x = along(x, np.array(of["points"], np.float32), np.array(of["scores"], np.float32))
    else:
        x = (x - np.float32(of["center"])) / np.float32(of["scale"])
        if kind == "robust":
            x = x / np.sqrt(1 + (x / np.float32(3)) ** 2)
    return np.where(np.isnan(raw), 0, x)


def along(x, points, scores):
    """Linear between points, in 32 bits."""
    if len(points) < 2:
        return np.full_like(x, scores[0] if len(scores) else 0)
    at = np.clip(np.searchsorted(points, x, side="right"), 1, len(points) - 1)
    share = (x - points[at - 1]) / (points[at] - points[at - 1])
    between = scores[at - 1] + share * (scores[at] - scores[at - 1])
    return np.where(x < points[0], scores[0], np.where(x >= points[-1], scores[-1], between))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2]) as lines:
        rows = [json.loads(line) for line in lines]
    risks = load(sys.argv[1]).risk([row["customer"] for row in rows])
    for row, risk in zip(rows, risks):
        print(f"{row['customer']['customer_id']}\t{row['risk']:.9f}\t{risk:.9f}")


if __name__ == "__main__":
    main()
