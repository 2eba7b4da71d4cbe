"""The official models that are tried: their scripts, the data made for them, and their arguments.

Sizes are small; nothing of a script is edited. Some settings exist only in a script's YAML file, of
which a copy with other values is given, as a user would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts import made_data

_TINY: dict[str, Any] = {
    "seq_length": 32,
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
_EXACT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass(frozen=True)
class Attempt:
    """One script to try.

    Args:
        name: of the model.
        folders: where its script is, below the folder of repositories; the first that exists.
        script: in that folder.
        data: writes the data into a folder.
        arguments: of the script, with {data}, {out} and {config} filled in.
        config: the script's YAML file, in that folder, of which {config} is a changed copy.
        changes: {key, with dots between levels: value} in that copy.
        compared: further arguments under which MindSpore on a CPU can be compared with: without
            dropout, and without what a CPU does not have; None: MindSpore 2.10 cannot run it.
        exact: further changes of the copy for the comparison.
        steps: ends after so many, a comparison after 20; 0: the script ends by itself.
        smaller: see `observed`.
        exact_smaller: the same for the comparison, which has `smaller` as well.
        tolerance: the relative difference of losses from MindSpore's that float32 explains.
        by_step: compares each step from MindSpore's state before it, where training itself makes
            rounding larger from step to step.
    """

    name: str
    folders: tuple[str, ...]
    data: Callable[[Path], None]
    arguments: str
    script: str = "train.py"
    config: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    compared: str | None = ""
    exact: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    smaller: dict[str, Any] = field(default_factory=dict)
    exact_smaller: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5
    by_step: bool = False

    def folder(self, repositories: Path) -> Path | None:
        """Where the script is; None if the repositories do not have it."""
        found = (repositories / folder for folder in self.folders)
        return next((folder for folder in found if (folder / self.script).is_file()), None)


def _of(age: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{age}/{name}" for name in names)


ATTEMPTS = [
    Attempt(
        "LeNet",
        _of("models", "research/cv/lenet", "official/cv/lenet"),
        made_data.mnist,
        "--data_path={data} --ckpt_path={out} --epoch_size=1 --device_target=CPU",
    ),
    Attempt(
        "ResNet",
        _of("models", "official/cv/ResNet"),
        lambda folder: made_data.cifar10(folder, 50_000),  # MindSpore reads no smaller files
        "--config_path=config/resnet18_cifar10_config.yaml --data_path={data} --output_dir={out} "
        "--epoch_size=1 --batch_size=8 --train_image_size=32 --eval_image_size=32 "
        "--device_target=CPU",
        steps=20,
        tolerance=1e-3,
    ),
    Attempt(
        "MobileNetV2",
        _of("models", "official/cv/MobileNet/mobilenetv2"),
        made_data.image_folders,
        "--config_path={config} --dataset_path={data} --epoch_size=1 --batch_size=4 "
        "--image_height=64 --image_width=64 --num_classes=4",
        config="default_config_cpu.yaml",
        by_step=True,
    ),
    Attempt(
        "VGG",
        _of("models", "official/cv/VGG/vgg16"),
        lambda folder: made_data.cifar10(folder / "cifar-10-batches-bin", 10),
        "--config_path={config} --data_dir={data} --ckpt_path={out} --batch_size=2 --max_epoch=1 "
        "--device_target=CPU",
        config="cifar10_config.yaml",
        changes={"image_size": [32, 32]},
        compared=None,
        steps=3,
    ),
    Attempt(
        "Wide&Deep",
        _of("models", "official/recommend/Wide_and_Deep"),
        made_data.clicks,
        "--data_path={data} --epochs=1 --batch_size=1000 --vocab_size=2000 --emb_dim=8 "
        "--ckpt_path={out} --device_target=CPU",
    ),
    Attempt(
        "DeepFM",
        _of("models", "official/recommend/DeepFM"),
        made_data.clicks,
        "--dataset_path={data} --train_epochs=1 --batch_size=1000 --data_vocab_size=2000 "
        "--data_emb_dim=8 --do_eval=False --ckpt_path={out} --device_target=CPU",
        compared="--keep_prob=1.0",
        tolerance=1e-4,
    ),
    Attempt(
        "NCF",
        _of("models", "research/recommend/ncf", "official/recommend/ncf"),
        made_data.ratings,
        "--data_path={data} --train_epochs=1 --batch_size=28700 --checkpoint_path={out} "
        "--device_target=CPU",
    ),
    Attempt(
        "BERT",
        _of("models", "official/nlp/Bert"),
        made_data.masked_sentences,
        "--config_path={config} --data_dir={data} --save_checkpoint_path={out} --epoch_size=1",
        script="run_pretrain.py",
        config="pretrain_config.yaml",
        changes={"base_batch_size": 4, **{f"base_net_cfg.{k}": v for k, v in _TINY.items()}},
        compared="--enable_lossscale=false --optimizer=AdamWeightDecay",
        exact={
            "base_net_cfg.compute_type": "mstype.float32",
            **{f"base_net_cfg.{k}": v for k, v in _EXACT.items()},
        },
    ),
    Attempt(
        "Transformer",
        _of("models", "official/nlp/Transformer"),
        made_data.translations,
        "--config_path={config} --data_path={data}/ende --save_checkpoint_path={out} "
        "--epoch_size=1 --device_target=CPU",
        config="default_config.yaml",
        changes={"batch_size": 4, "bucket_boundaries": [16, 32], **_TINY},
        exact=_EXACT,
        tolerance=1e-2,  # the script sets float16
    ),
    Attempt(
        "LSTM",
        _of("models", "official/nlp/LSTM"),
        made_data.reviews,
        "--preprocess=true --aclimdb_path={data}/aclImdb --glove_path={data} "
        "--preprocess_path={out}/pre --ckpt_path={out} --embed_size=16 --num_hiddens=16 "
        "--num_epochs=2 --batch_size=8 --device_target=CPU",
    ),
    Attempt(
        "YOLOv5",
        _of("models", "official/cv/YOLOv5"),
        made_data.boxes,
        "--data_dir={data} --output_dir={out} --per_batch_size=2 --max_epoch=1 --log_interval=1 "
        "--T_max=1 --warmup_epochs=1 --lr=0.0001 --device_target=CPU",
        compared=None,
        steps=3,
    ),
    Attempt(
        "SSD",
        _of("models", "official/cv/SSD"),
        made_data.boxes,
        "--config_path={config} --data_path={data} --coco_root=. --mindrecord_dir=records "
        "--output_path={out} --epoch_size=2 --batch_size=4 --device_target=CPU",
        config="config/ssd300_config.yaml",
        compared=None,
        steps=4,
    ),
    Attempt(
        "UNet",
        _of("models", "official/cv/Unet"),
        made_data.cells,
        "--config_path={config} --data_path={data} --output_path={out} --device_target=CPU",
        config="unet_simple_config.yaml",
        changes={"batch_size": 1, "epochs": 2, "repeat": 1, "image_size": [192, 192]},
        steps=6,
    ),
    Attempt(
        "GPT",
        _of("models-r1.5", "official/nlp/gpt"),
        made_data.token_rows,
        "--data_path={data} --epoch_size=2 --sink_size=5 --warmup_step=2",
        tolerance=1e-4,  # the script sets float16
        smaller={
            "src.utils": {
                "GPTConfig": {
                    "seq_length": 32,
                    "vocab_size": 200,
                    "embedding_size": 32,
                    "num_layers": 2,
                    "num_heads": 2,
                }
            }
        },
        exact_smaller={"src.utils": {"GPTConfig": {"dropout_rate": 0.0}}},
    ),
]
