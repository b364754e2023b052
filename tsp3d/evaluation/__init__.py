"""Measures, protocols and reports."""

from tsp3d.evaluation.metrics import CalibrationError, GroundingAccuracy, box_iou, f1_at
from tsp3d.evaluation.multi import MultiTargetF1, evaluate_dataset, evaluate_multi, prediction_rule
from tsp3d.evaluation.protocols import CutScenes, Evaluation, evaluate_grounding, measure_speed, spread
from tsp3d.evaluation.report import check_report, markdown, tables, write_report

__all__ = [
    "CalibrationError",
    "CutScenes",
    "Evaluation",
    "GroundingAccuracy",
    "MultiTargetF1",
    "box_iou",
    "evaluate_dataset",
    "evaluate_grounding",
    "evaluate_multi",
    "f1_at",
    "check_report",
    "markdown",
    "measure_speed",
    "prediction_rule",
    "spread",
    "tables",
    "write_report",
]
