"""The loss of labels that may be read at any step, of numbers that are no logarithms."""

import numpy as np

from paramesh import Tensor, nn


def loss(targets: list[list[int]], steps: list[int], sizes: list[int], zero: bool = False) -> list:
    scores = np.arange(80, dtype=np.float32).reshape(10, 2, 4)
    arrays = [np.array(given, np.int32) for given in (targets, steps, sizes)]
    layer = nn.CTCLoss(blank=0, reduction="none", zero_infinity=zero)
    return layer(Tensor(scores), *map(Tensor, arrays)).tolist()


def test_as_mindspore() -> None:
    found = loss([[0, 1, 2, 0, 0], [1, 2, 3, 9, 9]], [10, 10], [3, 3])
    np.testing.assert_allclose(found, [-378.18414, -427.80768], rtol=1e-6)  # of MindSpore 2.10


def test_labels_that_cannot_be() -> None:
    outside, long = [[1, 2, 3], [5, 6, 7]], [[1, 2, 3], [1, 1, 3]]
    for targets, steps in ((outside, [10, 10]), (long, [10, 3])):
        assert np.isinf(loss(targets, steps, [3, 3])).tolist() == [False, True]
        assert loss(targets, steps, [3, 3], zero=True)[1] == 0
