"""A worker of paramesh: the network of `server_peers`, its Parameters on a server.

Started by `paramesh launch`. Its arguments are where to connect to (see `driving`), and the numbers
and settings of the run, as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import sys

import numpy as np
from driving import drive

from paramesh import Tensor, context, nn

widths, batch, rate, _, settings = json.loads(sys.argv[2])
rank = int(os.environ.get("PARAMESH_PS_RANK", "0"))
context.set_ps_context(enable_ps=True, server_num=1, **settings)
layers = []
for i, (inside, outside) in enumerate(itertools.pairwise(widths)):
    layers += [nn.Dense(inside, outside)] + ([nn.ReLU()] if i < len(widths) - 2 else [])
net = nn.SequentialCell(layers)
net.set_param_ps()
step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params(), rate))
rng = np.random.default_rng(rank)
x = Tensor(rng.standard_normal((batch, widths[0])).astype(np.float32))
y = Tensor(rng.standard_normal((batch, 1)).astype(np.float32))
drive(lambda _: float(step(x, y)))
