"""The PyTorch side of train_speed.py: training steps of a GRU or an MLP, timed.

Eager PyTorch as its documentation advises for a CPU: nn.GRU, the data in memory as one fixed batch,
fused AdamW, zero_grad(set_to_none=True), nothing read back inside a step. Requests and answers are
those of `churn bench`.

Measured, PyTorch 2.15, one thread of a Xeon with AVX-512, milliseconds of CPU time a step:

    step                     months first, AdamW        rows first, AdamW
                             fused   loop    foreach    fused   loop    foreach
    gru B128 T12 F8 H32      2.13    2.25    2.27       2.19    2.34    2.33
    gru B512 T24 F8 H64      17.0    17.3    17.1       18.6    18.2    18.3
    mlp B256 64-128x3-1      0.84    1.04    1.03
    mlp B1024 64-256x3-1     7.04    7.41    7.18

torch.compile unrolls nn.GRU (allow_rnn): 8.5 ms in place of 9.1 for gru B512 T12 F8 H64, after 21 s of
compiling. Without allow_rnn it leaves nn.GRU as it is.
"""

import copy
import time

import torch
from torch import nn

RATE, BETAS, EPSILON, DECAY = 1e-3, (0.9, 0.999), 1e-8, 0.01


class Bench:
    """A model and its batch. Every turn starts from the same fresh weights."""

    def __init__(self, request, compiled=False):
        torch.manual_seed(request["seed"])
        build = {"gru": gru, "mlp": mlp}[request["model"]]
        self.model, self.inputs, self.targets = build(request)
        self.fresh = copy.deepcopy(self.model.state_dict())
        self.forward = torch.compile(self.model) if compiled else self.model

    def turn(self, request):
        self.model.load_state_dict(self.fresh)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, betas=BETAS, eps=EPSILON,
                                      weight_decay=DECAY, fused=True)
        losses = [self.step(optimizer) for _ in range(request["warmup"])]
        step_ms = []
        busy = time.process_time()
        for _ in range(request["steps"]):
            start = time.perf_counter()
            losses.append(self.step(optimizer))
            step_ms.append(1e3 * (time.perf_counter() - start))
        cpu_ms = 1e3 * (time.process_time() - busy) / max(request["steps"], 1)
        return {"step_ms": step_ms, "cpu_ms": cpu_ms, "loss_first": losses[0].item(), "loss_last": losses[-1].item(),
                "parameters": sum(p.numel() for p in self.model.parameters())}

    def step(self, optimizer):
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.binary_cross_entropy_with_logits(self.forward(self.inputs), self.targets)
        loss.backward()
        optimizer.step()
        return loss.detach()


class Gru(nn.Module):
    """Log-odds at every month."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.gru = nn.GRU(inputs, hidden)
        self.head = nn.Linear(hidden, 1)

    def forward(self, months):
        return self.head(self.gru(months)[0]).squeeze(-1)


def gru(request):
    rows, months, inputs = request["rows"], request["months"], request["inputs"]
    x = torch.randn(months, rows, inputs)
    log_odds = 1.5 * x[:, :, 0] - 1.0
    log_odds[1:] += x[:-1, :, 1]  # The month before counts too: something to remember.
    return Gru(inputs, request["hidden"]), x, torch.bernoulli(torch.sigmoid(log_odds))


def mlp(request):
    inputs, width = request["inputs"], request["width"]
    x = torch.randn(request["rows"], inputs)
    log_odds = 1.5 * x[:, 0] + x[:, 1] - 1.0
    layers, before = [], inputs
    for _ in range(request["layers"]):
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    model = nn.Sequential(*layers, nn.Linear(before, 1), nn.Flatten(0))
    return model, x, torch.bernoulli(torch.sigmoid(log_odds))
