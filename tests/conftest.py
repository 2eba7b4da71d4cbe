"""What all tests share: eight CPU devices, and settings that do not leak from test to test."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
import types

# JAX reads these when it is imported, so they come before anything that imports it.
# PARAMESH_TEST_PLATFORM=cuda runs the tests that can be run there on an accelerator.
os.environ["JAX_PLATFORMS"] = os.environ.get("PARAMESH_TEST_PLATFORM", "cpu")
# Most of the time of the tests is compiling programs that run once, so they are compiled without
# optimization. PARAMESH_TEST_COMPILER=full compiles them as a user's are; `make test-slow` does.
os.environ["XLA_FLAGS"] = " ".join(
    [
        *os.environ.get("XLA_FLAGS", "").split(),
        "--xla_force_host_platform_device_count=8",
        *(
            []
            if os.environ["JAX_PLATFORMS"] != "cpu" or "PARAMESH_TEST_COMPILER" in os.environ
            else [
                "--xla_backend_optimization_level=0",
                "--xla_llvm_disable_expensive_passes=true",
                # XLA ends the process for a flag that it does not know; this one went with 0.11.
                *(
                    ["--xla_cpu_use_fusion_emitters=false"]
                    if importlib.metadata.version("jaxlib").startswith("0.10.")
                    else []
                ),
                "--xla_cpu_parallel_codegen_split_count=1",
            ]
        ),
    ]
)
os.environ["MPLBACKEND"] = "Agg"

import gc
from collections.abc import Iterator

import hypothesis
import pytest

import goldens
import quick_cases

# A shell starts jobs in the background with Ctrl-C ignored, and so would all that tests start be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Traces and programs are many objects that stay: looking through them takes 5 % of the time.
gc.set_threshold(50_000, 20, 100)

# Compiling takes as long as it takes: no deadlines. The same examples in every run.
hypothesis.settings.register_profile(
    "paramesh",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("paramesh")


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the quick tests the cases that are for them."""
    quick_cases.mark_the_others(items)
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _few_objects_to_look_through() -> Iterator[None]:
    """Put away what stays after the tests of a file: `gc.collect()` took seconds at the end."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    """Give every test the default context and seed 0."""
    # A module that was never imported has nothing to reset.
    context = sys.modules.get("paramesh.context")
    set_seed = getattr(sys.modules.get("paramesh"), "set_seed", None)
    if set_seed is not None:
        set_seed(0)
    yield
    if context is not None:
        context.reset()


@pytest.fixture
def golden() -> types.ModuleType:
    """The readers of the golden data; `import goldens` where they are needed for parametrizing."""
    return goldens
