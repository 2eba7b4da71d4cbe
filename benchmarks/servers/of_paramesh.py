"""A worker of paramesh: the network of `server_peers`, its Parameters on a server.

Started by `paramesh launch`; its argument is the numbers of the run, as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time

import numpy as np

from paramesh import Tensor, context, nn

widths, batch, warm, steps, rate, rank = json.loads(sys.argv[1])
rank = int(os.environ.get("PARAMESH_PS_RANK", "0"))
context.set_ps_context(enable_ps=True, server_num=1)
layers = []
for i, (inside, outside) in enumerate(itertools.pairwise(widths)):
    layers += [nn.Dense(inside, outside)] + ([nn.ReLU()] if i < len(widths) - 2 else [])
net = nn.SequentialCell(layers)
net.set_param_ps()
step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params(), rate))
rng = np.random.default_rng(rank)
x = Tensor(rng.standard_normal((batch, widths[0])).astype(np.float32))
y = Tensor(rng.standard_normal((batch, 1)).astype(np.float32))
times = []
for _ in range(warm + steps):
    began = time.perf_counter()
    float(step(x, y))
    times.append(time.perf_counter() - began)
if rank == 0:
    print("TIMES", json.dumps(times[warm:]), flush=True)
