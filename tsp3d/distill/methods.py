"""The distillation methods by name, and how one is configured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tsp3d.distill.base import CONTROLS, DistillConfig, Method
from tsp3d.distill.born_again import BornAgain
from tsp3d.distill.coarse_to_fine import CoarseToFine
from tsp3d.distill.head import HeadTeacher
from tsp3d.distill.lar import Lar
from tsp3d.distill.large_to_tiny import LargeToTiny
from tsp3d.distill.pseudo_labels import PseudoLabels

if TYPE_CHECKING:
    from tsp3d.models.net import GroundingNet

METHODS: dict[str, type[Method]] = {
    "born-again": BornAgain,
    "large-to-tiny": LargeToTiny,
    "head": HeadTeacher,
    "lar": Lar,
    "coarse-to-fine": CoarseToFine,
    "pseudo-labels": PseudoLabels,
}

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "distill"


def load_distill_config(name: str, overrides: Sequence[str] = ()) -> DistillConfig:
    """The settings of a method.

    Args:
        name: of a YAML in ``configs/distill``, or the path of another one. Its "method" says which class it is for.
        overrides: ``key=value`` with dotted keys.

    Raises:
        FileNotFoundError: no such YAML.
        ValueError: an unknown method, key or control, or a value of the wrong type.
    """
    path = Path(name) if name.endswith(".yaml") else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise FileNotFoundError(f"distill: no configuration {path}; there are {known}, or give the path of a YAML")
    try:
        values = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides)))
        method = OmegaConf.select(values, "method")
        if method not in METHODS:
            raise ValueError(f"{path}: method is {method!r}; it must be one of {', '.join(METHODS)}")
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(METHODS[method].config_type), values))
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"distillation {path} with {list(overrides)}: {error}") from error
    assert isinstance(config, DistillConfig)
    if config.control not in CONTROLS:
        raise ValueError(f"distill.control is {config.control!r}; it must be one of {', '.join(CONTROLS)}")
    return config


def build_method(config: DistillConfig, student: GroundingNet) -> Method:
    """The method of a configuration, with new modules for ``student``."""
    return METHODS[config.method](config, student)
