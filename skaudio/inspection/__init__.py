"""For people: which frames matter, what a budget costs, and how well embeddings tell classes."""

from skaudio.inspection._budget_curve import BudgetCurveDisplay
from skaudio.inspection._cluster_report import cluster_report
from skaudio.inspection._embedding import EmbeddingDisplay
from skaudio.inspection._frame_importance import FrameImportanceDisplay, frame_importance
from skaudio.inspection._kept_log_mel import kept_log_mel

__all__ = [
    "BudgetCurveDisplay",
    "EmbeddingDisplay",
    "FrameImportanceDisplay",
    "cluster_report",
    "frame_importance",
    "kept_log_mel",
]
