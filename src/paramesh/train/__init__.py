"""Training: Model, callbacks, metrics, and Cells that make one step."""

from paramesh import deprecations, lazy_names
from paramesh.deprecations import Deprecated
from paramesh.optim import (
    DynamicLossScaleManager,
    DynamicLossScaleUpdateCell,
    FixedLossScaleManager,
    FixedLossScaleUpdateCell,
    LossScaleManager,
)
from paramesh.train.backup import BackupAndRestore
from paramesh.train.callbacks import (
    Callback,
    LambdaCallback,
    LearningRateScheduler,
    LossMonitor,
    RunContext,
    TimeMonitor,
)
from paramesh.train.cells import (
    ParameterUpdate,
    TrainOneStepCell,
    TrainOneStepWithLossScaleCell,
    WithEvalCell,
    WithGradCell,
    WithLossCell,
)
from paramesh.train.checkpoint_manager import CheckpointManager, SavedStep
from paramesh.train.classification_metrics import (
    F1,
    ROC,
    BleuScore,
    ConfusionMatrix,
    CosineSimilarity,
    Dice,
    Fbeta,
    Perplexity,
    Precision,
    Recall,
    auc,
)
from paramesh.train.confusion_metric import ConfusionMatrixMetric
from paramesh.train.grad_reducer import DistributedGradReducer
from paramesh.train.metrics import (
    MAE,
    MSE,
    Accuracy,
    Loss,
    Metric,
    Top1CategoricalAccuracy,
    Top5CategoricalAccuracy,
    TopKCategoricalAccuracy,
    get_metric_fn,
    get_metrics,
    names,
    rearrange_inputs,
)
from paramesh.train.micro_batches import MicroBatchInterleaved
from paramesh.train.model import Model
from paramesh.train.model_checkpoint import CheckpointConfig, ModelCheckpoint
from paramesh.train.monitored_callbacks import EarlyStopping, History, ReduceLROnPlateau
from paramesh.train.nan_stop import StopAtNaN
from paramesh.train.occlusion import OcclusionSensitivity
from paramesh.train.pipeline_cell import (
    GradAccumulationCell,
    PipelineCell,
    PipelineGradReducer,
)
from paramesh.train.summary import Summary
from paramesh.train.summary_collector import SummaryCollector
from paramesh.train.summary_record import SummaryRecord
from paramesh.train.watching import report
from paramesh.train.weights_and_biases import WandbLogger
from paramesh.train.workers import WorkerShare, divided, first_step, pending_steps, worker_share

__all__ = [
    "Model",
    # Cells
    "WithLossCell",
    "WithEvalCell",
    "ParameterUpdate",
    "WithGradCell",
    "TrainOneStepCell",
    "TrainOneStepWithLossScaleCell",
    "DistributedGradReducer",
    "MicroBatchInterleaved",
    "PipelineCell",
    "GradAccumulationCell",
    "PipelineGradReducer",
    # workers of servers
    "pending_steps",
    "first_step",
    "worker_share",
    "WorkerShare",
    "divided",
    # paramesh watch
    "report",
    "LossScaleManager",
    "FixedLossScaleManager",
    "DynamicLossScaleManager",
    "FixedLossScaleUpdateCell",
    "DynamicLossScaleUpdateCell",
    # callbacks
    "Callback",
    "RunContext",
    "LossMonitor",
    "TimeMonitor",
    "ModelCheckpoint",
    "CheckpointConfig",
    "CheckpointManager",
    "SavedStep",
    "LearningRateScheduler",
    "LambdaCallback",
    "Summary",
    "StopAtNaN",
    "WandbLogger",
    "EarlyStopping",
    "ReduceLROnPlateau",
    "History",
    "BackupAndRestore",
    "SummaryRecord",
    "SummaryCollector",
    # metrics
    "Metric",
    "Accuracy",
    "Loss",
    "MAE",
    "MSE",
    "TopKCategoricalAccuracy",
    "Top1CategoricalAccuracy",
    "Top5CategoricalAccuracy",
    "get_metrics",
    "get_metric_fn",
    "names",
    "rearrange_inputs",
    "BleuScore",
    "ConfusionMatrix",
    "ConfusionMatrixMetric",
    "CosineSimilarity",
    "Dice",
    "F1",
    "Fbeta",
    "HausdorffDistance",
    "MeanSurfaceDistance",
    "OcclusionSensitivity",
    "Perplexity",
    "Precision",
    "ROC",
    "Recall",
    "RootMeanSquareDistance",
    "auc",
]

#: MindSpore has some of other packages here, too; the others import `scipy.ndimage`.
_LAZY = lazy_names.homes(
    {
        "paramesh.checkpoint": """
            build_searched_strategy ckpt_to_safetensors export load_checkpoint
            load_distributed_checkpoint load_param_into_net merge_sliced_parameter
            safetensors_to_ckpt save_checkpoint
        """,
        "paramesh.mindspore_later_names": "async_ckpt_thread_status load_checkpoint_async",
        "paramesh.mindspore_names": "DatasetHelper connect_network_with_dataset data_sink load",
        "paramesh.train.amp": "build_train_network",
        "paramesh.train.surface_metrics": """
            HausdorffDistance MeanSurfaceDistance RootMeanSquareDistance
        """,
    }
)

__getattr__ = deprecations.renamed(
    __name__,
    {"owed": Deprecated("paramesh.train.workers.pending_steps", "paramesh.train.pending_steps")},
    lazy_names.opened(__name__, _LAZY, lambda: __all__),
)
