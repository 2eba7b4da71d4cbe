"""Distributions agree with scipy's, bijectors with their derivatives; wrong uses are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats as sps

import paramesh
from paramesh import Tensor, nn
from paramesh.nn.probability import bijector as msb
from paramesh.nn.probability import distribution as msd
from type_checks import wrong

X = np.array([0.2, 0.7, 1.6], np.float32)
UNIT = np.array([0.2, 0.5, 0.9], np.float32)
K = np.array([0, 1, 3], np.float32)

#: kind -> (its parameters, those of another one, scipy's of the same, values)
CASES: dict[str, tuple[list[Any], list[Any], Callable[..., Any], Any]] = {
    "Normal": ([0.3, 1.7], [1.0, 0.6], sps.norm, X),
    "LogNormal": ([0.3, 0.7], [1.0, 0.6], lambda m, s: sps.lognorm(s, scale=np.exp(m)), X),
    "Uniform": ([0.1, 1.2], [0.0, 3.0], lambda a, b: sps.uniform(a, b - a), X),
    "Exponential": ([[0.8]], [[2.0]], lambda r: sps.expon(scale=1 / r[0]), X),
    "Gamma": ([[2.5], [1.4]], [[1.5], [0.7]], lambda a, r: sps.gamma(a[0], scale=1 / r[0]), X),
    "Beta": ([[2.5], [1.4]], [[1.5], [3.0]], lambda a, b: sps.beta(a[0], b[0]), UNIT),
    "Cauchy": ([0.3, 1.7], [1.0, 0.6], sps.cauchy, X),
    "Logistic": ([0.3, 1.7], [1.0, 0.6], sps.logistic, X),
    "Gumbel": ([0.3, 1.7], [1.0, 0.6], sps.gumbel_r, X),
    "Bernoulli": ([[0.3]], [[0.6]], lambda p: sps.bernoulli(p[0]), np.array([0, 1, 1.0])),
    "Geometric": ([[0.3]], [[0.6]], lambda p: sps.geom(p[0], loc=-1), K),
    "Poisson": ([[1.3]], [[0.6]], lambda r: sps.poisson(r[0]), K),
    "Categorical": (
        [[0.1, 0.2, 0.3, 0.4]],
        [[0.4, 0.3, 0.2, 0.1]],
        lambda p: sps.rv_discrete(values=(range(4), p)),
        K,
    ),
}
WHOLE = ("Bernoulli", "Geometric", "Poisson", "Categorical")
WITHOUT_MOMENTS = ("Cauchy",)
WITHOUT_KL = ("Logistic", "Poisson")


def tensors(values: list[Any]) -> list[Tensor]:
    return [Tensor(np.array(value), paramesh.float32) for value in values]


@pytest.mark.parametrize("kind", CASES)
def test_numbers_are_scipys(kind: str) -> None:
    own, _, reference, values = CASES[kind]
    known = getattr(msd, kind)(*own)
    asked = getattr(msd, kind)()
    theirs = reference(*own)
    x = Tensor(values, paramesh.float32)
    wanted = {
        "log_prob": theirs.logpmf(values) if kind in WHOLE else theirs.logpdf(values),
        "cdf": theirs.cdf(values),
        "log_cdf": np.log(theirs.cdf(values)),
        "survival_function": theirs.sf(values),
    }
    wanted["prob"] = np.exp(wanted["log_prob"])
    with np.errstate(divide="ignore"):
        wanted["log_survival"] = np.log(theirs.sf(values))
    for operation, want in wanted.items():
        for found in (
            getattr(known, operation)(x),
            getattr(asked, operation)(x, *tensors(own)),
            known(operation, x),
        ):
            with np.errstate(invalid="ignore"):
                near = np.isclose(np.asarray(found), want, rtol=2e-5, atol=2e-6)
            # At the end of what is possible 1 - cdf is 0, or nearly.
            assert (near | (np.asarray(want) < -14)).all(), (operation, found, want)
    if kind not in WITHOUT_MOMENTS:
        np.testing.assert_allclose(known.mean(), [theirs.mean()] * np.size(known.mean()), rtol=1e-5)
        np.testing.assert_allclose(np.ravel(known.sd()), theirs.std(), rtol=1e-5)
        np.testing.assert_allclose(np.ravel(known.var()), theirs.var(), rtol=1e-5)
    if kind != "Poisson":
        np.testing.assert_allclose(np.ravel(known.entropy()), theirs.entropy(), rtol=1e-5)


@pytest.mark.parametrize("kind", [k for k in CASES if k not in WITHOUT_KL])
def test_divergences_are_sums_of_their_definition(kind: str) -> None:
    own, other, reference, _ = CASES[kind]
    known, asked = getattr(msd, kind)(*own), getattr(msd, kind)()
    a, b = reference(*own), reference(*other)
    if kind in WHOLE:
        n = np.arange(4 if kind == "Categorical" else 2 if kind == "Bernoulli" else 200)
        want = (a.pmf(n) * (a.logpmf(n) - b.logpmf(n))).sum()
    else:
        points = a.ppf((np.arange(200_000) + 0.5) / 200_000)
        want = (a.logpdf(points) - b.logpdf(points)).mean()
    found = known.kl_loss(kind, *tensors(other))
    np.testing.assert_allclose(np.ravel(found), want, rtol=2e-3, atol=1e-4)
    both = asked.kl_loss(kind, *tensors(other), *tensors(own))
    np.testing.assert_allclose(both, found, rtol=1e-6)
    cross = asked.cross_entropy(kind, *tensors(other), *tensors(own))
    np.testing.assert_allclose(cross, found + known.entropy(), rtol=1e-5)
    with pytest.raises(ValueError, match=f"the other distribution must be '{kind}', got 'Odd'"):
        known.kl_loss("Odd", *tensors(other))


#: Compiling the samplers of the others takes seconds.
QUICK = ("Normal", "Uniform", "Bernoulli", "Categorical")


@pytest.mark.parametrize(
    "kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in CASES]
)
def test_samples_follow_the_distribution(kind: str) -> None:
    own, _, reference, _ = CASES[kind]
    known = getattr(msd, kind)(*own, seed=3)
    drawn = known.sample((4000,))
    assert drawn.dtype == known.dtype
    numbers = drawn.asnumpy().reshape(-1).astype(float)
    theirs = reference(*own)
    if kind in WHOLE:
        counted = [(numbers == n).mean() for n in range(4)]
        np.testing.assert_allclose(counted, theirs.pmf(range(4)), atol=0.04)
    else:
        assert sps.kstest(numbers, theirs.cdf).pvalue > 1e-3
    assert not np.array_equal(known.sample((4000,)), drawn)
    again = getattr(msd, kind)().sample((2,), *tensors(own))
    assert again.shape[0] == 2


def test_samples_have_the_parameters_shape_behind() -> None:
    normal = msd.Normal(np.zeros((3, 1), np.float32), np.ones(2, np.float32))
    assert normal.batch_shape == (3, 2)
    assert not normal.is_scalar_batch
    assert normal.sample((4, 5)).shape == (4, 5, 3, 2)
    assert msd.Categorical([[0.5, 0.5]] * 3).sample((4,)).shape == (4, 3)
    assert normal.get_dist_type() == "Normal"
    assert msd.Normal().batch_shape is None


def test_gradients_reach_the_parameters_of_a_call() -> None:
    normal = msd.Normal()

    def loss(x: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
        return normal.log_prob(x, mean, sd).sum()

    by_mean = paramesh.grad(loss, 1)(Tensor(X), Tensor([0.5]), Tensor([2.0]))
    np.testing.assert_allclose(by_mean, [((X - 0.5) / 4).sum()], rtol=1e-5)


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
def test_a_distribution_of_ones_own(mode: int) -> None:
    class Half(msd.Distribution):
        def __init__(self) -> None:
            super().__init__(None, paramesh.float32, "half", {"param_dict": {}})

        def _prob(self, value: Tensor) -> Tensor:
            return value * 0 + 0.5

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.half = Half()

        def construct(self, name: str, x: Tensor) -> Tensor:
            return self.half(name, x)

    paramesh.set_context(mode=mode)
    np.testing.assert_allclose(Net()("log_prob", Tensor(X)), np.log([0.5] * 3), rtol=1e-6)
    for name in ("cdf", "mean", "sd", "kl_loss", "sample"):
        with pytest.raises(NotImplementedError, match="distribution 'half' .Half. has no"):
            Net()(name, Tensor(X))


BIJECTORS = {
    "Exp": (msb.Exp(), np.exp),
    "PowerTransform": (msb.PowerTransform(0.5), lambda x: (1 + x / 2) ** 2),
    "ScalarAffine": (msb.ScalarAffine(-2.0, 0.5), lambda x: 0.5 - 2 * x),
    "Softplus": (msb.Softplus(2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    "GumbelCDF": (msb.GumbelCDF(0.3, 1.7), sps.gumbel_r(0.3, 1.7).cdf),
    "Invert": (msb.Invert(msb.Exp()), np.log),
}


@pytest.mark.parametrize("name", BIJECTORS)
def test_bijectors(name: str) -> None:
    function, reference = BIJECTORS[name]
    x = Tensor(X)
    y = function.forward(x)
    np.testing.assert_allclose(y, reference(X), rtol=1e-5)
    np.testing.assert_allclose(function("inverse", y), X, rtol=1e-5, atol=1e-6)
    slope = np.log(np.abs(paramesh.grad(lambda v: function.forward(v).sum())(x)))
    found = np.broadcast_to(function.forward_log_jacobian(x), X.shape)
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)
    back = np.broadcast_to(function.inverse_log_jacobian(y), X.shape)
    np.testing.assert_allclose(back, -slope, rtol=1e-4, atol=1e-5)


def test_a_transformed_distribution() -> None:
    made = msb.Exp()(msd.Normal(0.3, 0.7))
    assert isinstance(made, msd.TransformedDistribution)
    theirs, x = msd.LogNormal(0.3, 0.7), Tensor(X)
    np.testing.assert_allclose(made.log_prob(x), theirs.log_prob(x), rtol=1e-5)
    np.testing.assert_allclose(made.cdf(x), theirs.cdf(x), rtol=1e-5)
    assert (made.sample((50,)).asnumpy() > 0).all()
    moved = msb.ScalarAffine(2.0, 1.0)(msd.Normal(0.5, 1.0))
    np.testing.assert_allclose(moved.mean(), 2.0)
    with pytest.raises(NotImplementedError, match="a constant slope only"):
        made.mean()
    with pytest.raises(TypeError, match="expected a Bijector and a Distribution"):
        msd.TransformedDistribution(wrong(2), msd.Normal())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: msd.Normal(0.0, 0.0), ValueError, "Normal: sd must be above 0"),
        (lambda: msd.Normal(0.0, 1.0, dtype=paramesh.int32), TypeError, "dtype must be one of"),
        (lambda: msd.Normal(0.0, 1.0, name=wrong(1.0)), TypeError, "name must be a str, got 1.0"),
        (lambda: msd.Normal(0.0, 1.0, seed=wrong("a")), TypeError, "seed must be an int, got 'a'"),
        (lambda: msd.Normal(0.0, 1.0, seed=-1), ValueError, "seed must be at least 0"),
        (lambda: msd.Normal([0.0, 1.0], [1.0] * 3), ValueError, "shapes do not fit together"),
        (lambda: msd.Normal("a", 1.0), TypeError, "mean must be a number, list, array or Tensor"),
        (
            lambda: msd.Normal(np.zeros(1, np.float16), np.ones(1, np.float32)),
            TypeError,
            "sd has dtype Float32, the parameters before it have Float16",
        ),
        (lambda: msd.Normal(0.0).mean(), TypeError, "sd was given neither"),
        (lambda: msd.Normal(0.0, 1.0).prob(wrong(0.5)), TypeError, "value must be a Tensor"),
        (lambda: msd.Normal(0.0, 1.0).mean(1, 2, 3), TypeError, "at most the arguments mean, sd"),
        (lambda: msd.Normal(0.0, 1.0).sample(wrong(3)), TypeError, "shape must be a tuple of ints"),
        (lambda: msd.Uniform(1.0, 0.0), ValueError, "low must be below high"),
        (lambda: msd.Gamma(3.0, [1.0]), TypeError, "concentration must be a list, array or"),
        (lambda: msd.Poisson(0.1), TypeError, "rate must be a list, array or Tensor"),
        (lambda: msd.Bernoulli([1.0]), ValueError, "probs must be between 0 and 1"),
        (lambda: msd.Categorical([0.3, 0.3]), ValueError, "probs must be 1 together"),
        (lambda: msd.Categorical(0.2), ValueError, "needs an axis"),
        (lambda: msd.Cauchy(0.0, 1.0).mean(), NotImplementedError, "has no mean"),
        (lambda: msb.ScalarAffine(1, 2), TypeError, "scale must be of a float type, got 1"),
        (lambda: msb.ScalarAffine(0.0), ValueError, "scale must not be 0"),
        (lambda: msb.ScalarAffine("a"), TypeError, "scale must be a number"),
        (
            lambda: msb.ScalarAffine(wrong(None)),
            TypeError,
            "must be a number, list, array or Tensor",
        ),
        (lambda: msb.Softplus(0.0), ValueError, "sharpness must not be 0"),
        (lambda: msb.GumbelCDF(scale=-1.0), ValueError, "scale must be above 0"),
        (lambda: msb.PowerTransform(-1.0), ValueError, "power must be at least 0"),
        (lambda: msb.Exp(name=wrong(0.1)), TypeError, "name must be a str"),
        (lambda: msb.Invert(wrong(0.1)), TypeError, "expected a Bijector"),
        (lambda: msb.Exp().forward(Tensor([1])), TypeError, "expected a Tensor of a float type"),
        (lambda: msb.Bijector(name="odd").forward(wrong(1)), NotImplementedError, "has no forward"),
    ],
)
def test_refusals(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
