"""Quick validation during training, on a fixed part of the validation split."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from tsp3d.data.annotated import SceneSet
from tsp3d.data.augment import AugmentConfig
from tsp3d.data.collate import collate
from tsp3d.data.loader import TrainingSamples
from tsp3d.evaluation.protocols import evaluate_grounding, spread
from tsp3d.training.config import TrainConfig

SHOWN = {"overall": "", "unique": "unique ", "multiple": "multiple ", "view-dependent": "view-dependent "}


def validate(config: TrainConfig, net: nn.Module, scenes: SceneSet) -> dict[str, float]:
    """Accuracy in percent (stage "grounding") or mean losses (stage "detection") on a fixed subset.

    Args:
        net: in evaluation mode; its first parameter's device is used.
    """
    device = next(net.parameters()).device
    chosen = spread(len(scenes), config.log.validate_scenes)
    if config.stage == "detection":
        return _detection(config, net, scenes, chosen, device)
    result = evaluate_grounding(
        net,  # type: ignore[arg-type]
        scenes,
        scenes=chosen,
        queries_per_scene=config.log.validate_queries,
        points=config.log.validate_points,
        device=device,
    )
    values: dict[str, float] = {"queries": float(len(result.rows))}
    for group, prefix in SHOWN.items():
        for key in ("acc@0.25", "acc@0.5", "recall@0.5") if group == "overall" else ("acc@0.25", "acc@0.5"):
            if group in result.groups:
                values[prefix + key] = result.groups[group][key]
    return {**values, "calibration": result.calibration_error}


@torch.no_grad()
def _detection(
    config: TrainConfig, net: nn.Module, scenes: SceneSet, chosen: list[int], device: torch.device
) -> dict[str, float]:
    plain = replace(config.data, augment=AugmentConfig(enabled=False), points_per_scene=config.log.validate_points)
    samples = TrainingSamples(scenes, plain, seed=0, sentences=False)
    sums: dict[str, float] = {}
    for index in chosen:
        torch.manual_seed(index)
        losses = net.detection_losses(collate([samples[0, index]]).to(device))  # type: ignore[operator]
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: value / len(chosen) for name, value in sums.items()}
