"""Models of mindcv compute what they compute under MindSpore, from its weights.

`make test-scripts` runs this with a python that has MindSpore 2.10 and mindcv (`trials.MINDSPORE`).
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from environments import without_virtual_devices
from scripts import trials

Results = dict[str, np.ndarray]

PROBE = Path(__file__).with_name("mindcv_probe.py")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-mindspore-scripts.md"
# fmt: off
#: The smallest model of each family, and the size of its images: the smallest that leaves its last
#: normalization more than one place, or the one that the model demands.
MODELS = {
    "BiT_resnet50": 64, "cait_xxs24_224": 224, "cmt_tiny": 160, "coat_lite_tiny": 224,
    "convit_tiny": 224, "convnext_tiny": 64, "convnextv2_atto": 64, "crossvit_9": 240,
    "densenet121": 64, "dpn92": 64, "edgenext_xx_small": 64, "efficientnet_b0": 64,
    "efficientnet_v2_s": 64, "ghostnet_050": 64, "googlenet": 96, "halonet_50t": 256,
    "hrnet_w32": 64, "inception_v3": 299, "inception_v4": 139, "mae_b_16_224_finetune": 224,
    "mixnet_s": 64, "mlp_mixer_s_p32": 224, "mnasnet_050": 64, "mobilenet_v1_025": 64,
    "mobilenet_v2_035_96": 64, "mobilenet_v3_small_075": 64, "mobilevit_xx_small": 64,
    "nasnet_a_4x1056": 96, "pit_ti": 224, "pnasnet": 96, "poolformer_s12": 64, "pvt_tiny": 224,
    "pvt_v2_b0": 64, "regnet_x_200mf": 64, "repmlp_t224": 224, "repvgg_a0": 64,
    "res2net50": 64, "resnest14": 64, "resnet18": 64, "resnetv2_50": 64, "resnext50_32x4d": 64,
    "rexnet_09": 64, "seresnet18": 64, "shufflenet_v1_g3_05": 64, "shufflenet_v2_x0_5": 64,
    "skresnet18": 64, "squeezenet1_1": 64, "swin_tiny": 224, "swinv2_tiny_window8": 256,
    "vgg11": 224, "visformer_tiny": 224, "vit_b_32_224": 224, "volo_d1": 224, "xception": 96,
    "xcit_tiny_12_p16_224": 224,
}
#: Those whose training step is compared too.
TRAINED = (
    "convnextv2_atto", "mlp_mixer_s_p32", "mobilenet_v1_025", "mobilenet_v2_035_96",
    "mobilenet_v3_small_075", "pit_ti", "poolformer_s12", "regnet_x_200mf", "repvgg_a0",
    "resnet18", "seresnet18", "shufflenet_v1_g3_05", "shufflenet_v2_x0_5", "skresnet18",
    "squeezenet1_1", "vit_b_32_224",
)
# fmt: on
#: Other images than those of the seed 0, with which rounding puts an element on the other side of
#: ReLU's kink: the gradients of one channel and of all below it would differ.
SEEDS = {"seresnet18": 1}
#: What MindSpore 2.10 cannot run on a CPU, and why.
CANNOT = {
    "halonet_50t": "it has no ExtractImagePatches there",
    "volo_d1": "`ops.pad` takes no nested paddings any more",
}
#: Parts of the largest element: of outputs; of the loss, gradients and moving averages.
LIMITS = {"outputs": 1e-5, "training step": 1e-4}
#: What makes each rounding larger than that. It is compared with the results in Float64, and the
#: limit is what those move when the result of each operator is rounded to Float32.
MAGNIFYING = {
    "BiT_resnet50": "outputs",
    "ghostnet_050": "outputs",
    "mobilenet_v2_035_96": "training step",
}
#: An operator of Float32 sums up, and so rounds more than once; and that is one draw of chance.
SEVERAL = 4.0


def _both(place: Path, models: list[str], names: bool = False) -> tuple[Path, Path]:
    """Run the models under MindSpore, then here with its weights; the two folders of results."""
    mindspore = trials.mindspore()
    if mindspore is None:
        pytest.skip(f"{trials.MINDSPORE} is not set")
    if importlib.util.find_spec("mindcv") is None:
        pytest.skip("not installed: mindcv (see tests/scripts/requirements.txt)")
    if subprocess.run([mindspore, "-c", "import mindcv"], capture_output=True).returncode:
        pytest.skip(f"{mindspore} does not have mindcv")
    for python, who in ((mindspore, "theirs"), (sys.executable, "ours")):
        folder = place / who
        folder.mkdir()
        settings = {
            "mindspore": who == "theirs",
            "names": str(folder / "names.json") if names else "",
            "models": {
                m: {
                    "size": MODELS[m],
                    "seed": SEEDS.get(m, 0),
                    "train": m in TRAINED,
                    "exact": m in MAGNIFYING,
                }
                for m in models
            },
            "folder": str(folder),
            "weights": str(place),
        }
        file = place / f"{who}.json"
        file.write_text(json.dumps(settings))
        subprocess.run([python, str(PROBE), str(file)], env=without_virtual_devices(), check=True)
    return place / "theirs", place / "ours"


def _results(folder: Path, model: str) -> Results:
    trace = folder / f"{model}.txt"
    assert not trace.exists(), trace.read_text()
    with np.load(folder / f"{model}.npz") as kept:
        return dict(kept)


def _far(ours: np.ndarray, theirs: np.ndarray, least: float = 0.0) -> float:
    """The largest difference, as a part of the largest element."""
    assert ours.shape == theirs.shape
    assert theirs.dtype in (ours.dtype, np.float64)
    difference = np.abs(ours.astype(np.float64) - theirs).max(initial=0)
    return float(difference / max(np.abs(theirs).max(initial=0), least, 1e-30))


def _distances(ours: Results, theirs: Results) -> dict[str, float]:
    """How far outputs are from the others, and what a training step gives."""
    gradients = [key for key in theirs if key.startswith("gradient/")]
    # A bias in front of a normalization has no gradient but rounding.
    least = 1e-3 * max((float(np.abs(theirs[key]).max(initial=0)) for key in gradients), default=0)
    step = {key: _far(ours[key], theirs[key], least) for key in gradients}
    step |= {
        key: _far(ours[key], theirs[key])
        for key in theirs
        if key.startswith("average/") or key == "loss"
    }
    outputs = [_far(ours[key], theirs[key]) for key in theirs if key.startswith("output/")]
    return {"outputs": max(outputs), "training step": max(step.values(), default=0.0)}


def shown() -> list[str]:
    """The models of the page's table of mindcv."""
    section = PAGE.read_text().split("### mindcv\n")[1].split("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    return [cells[0].strip("`") for cells in rows]


def test_the_page_has_every_model_and_no_other() -> None:
    assert shown() == list(MODELS)


@pytest.mark.slow
def test_all_names_and_shapes_are_mindspores(tmp_path: Path) -> None:
    theirs, ours = (
        json.loads((folder / "names.json").read_text())
        for folder in _both(tmp_path, [], names=True)
    )
    assert len(theirs) == 275
    assert {name: of for name, of in ours.items() if of != theirs[name]} == {}


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in MODELS if name not in CANNOT])
def test_a_model_computes_mindspores_values(
    model: str, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    folders = _both(tmp_path, [model])
    theirs, ours = (_results(folder, model) for folder in folders)
    assert ours.keys() == theirs.keys()
    record_property("script", model)
    for what, limit in LIMITS.items():
        far = _distances(ours, theirs)[what] if MAGNIFYING.get(model) != what else None
        if what == "training step" and model not in TRAINED:
            continue
        if far is None:
            exact = _results(folders[1], f"{model}.exact")
            rounded = _results(folders[1], f"{model}.rounded")
            sides = {"ours": ours, "MindSpore's": theirs, "rounded": rounded}
            from_exact = {who: _distances(side, exact)[what] for who, side in sides.items()}
            record_property(f"{what} from Float64", from_exact)
            assert from_exact["ours"] <= max(limit, SEVERAL * from_exact["rounded"]), from_exact
        else:
            record_property(what, far)
            assert far <= limit, what
