# SPDX-License-Identifier: Apache-2.0
"""Writes torch_optimizers.json: what PyTorch's optimisers make of a few rows.

python torch_optimizers.py > torch_optimizers.json
"""
import json

import torch

ROWS, DIM, STEPS = 3, 10, 12

torch.manual_seed(20)
start = torch.randn(ROWS, DIM)
# Of very different sizes, as gradients are.
gradients = torch.randn(STEPS, ROWS, DIM) * 10 ** (4 * torch.rand(STEPS, ROWS, 1) - 3)

RULES = {
    "adam": lambda p: torch.optim.Adam(p, lr=2e-3, betas=(0.9, 0.999), eps=1e-8),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
}

out = {
    "torch": torch.__version__,
    "start": start.flatten().tolist(),
    "gradients": [g.flatten().tolist() for g in gradients],
}
for name, make in RULES.items():
    weight = torch.nn.Parameter(start.clone())
    optimizer = make([weight])
    steps = []
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        steps.append(weight.detach().flatten().tolist())
    out[name] = steps
print(json.dumps(out))
