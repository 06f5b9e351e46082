"""Displays and measures of fitted pipelines: importance, embeddings, training and cost."""

from skaudio.inspection._budget_curve import BudgetCurveDisplay
from skaudio.inspection._cluster_report import cluster_report
from skaudio.inspection._embedding import EmbeddingDisplay
from skaudio.inspection._frame_importance import (
    FrameImportanceDisplay,
    frame_importance,
    kept_log_mel,
)
from skaudio.inspection._label_efficiency import LabelEfficiencyDisplay
from skaudio.inspection._learning_curve import LearningCurveDisplay
from skaudio.inspection._saliency import SaliencyDisplay
from skaudio.inspection._spectrogram import SpectrogramDisplay

__all__ = [
    "BudgetCurveDisplay",
    "EmbeddingDisplay",
    "FrameImportanceDisplay",
    "LabelEfficiencyDisplay",
    "LearningCurveDisplay",
    "SaliencyDisplay",
    "SpectrogramDisplay",
    "cluster_report",
    "frame_importance",
    "kept_log_mel",
]
