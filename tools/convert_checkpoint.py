"""Convert a checkpoint of the public TSP3D release: python tools/convert_checkpoint.py RELEASE.pth --out weights/tsp3d

Then: python tools/infer.py scan.ply --text "the brown chair next to the desk" --model weights/tsp3d
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from tsp3d.files import write_text
from tsp3d.models.config import load_model_config
from tsp3d.models.convert import compatible, convert, describe, read_release
from tsp3d.models.net import GroundingNet

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "model" / "tsp3d-base.yaml"


@dataclass
class Options:
    """Convert a checkpoint of the TSP3D release to a weights folder; no code in the checkpoint is run."""

    checkpoint: tyro.conf.Positional[Path]
    """The release's .pth file."""
    out: Path
    """Folder for config.json, model.safetensors and text/."""
    text: str = "roberta-base"
    """RoBERTa-base with its tokenizer, which the checkpoint lacks: a local folder or a hub id."""
    config: Path = CONFIG
    """Model configuration that the checkpoint was trained with."""
    partial: bool = False
    """Write the folder even if weights are missing or have another shape; these stay random."""


def main(options: Options) -> None:
    """Convert, list what did not fit, write."""
    try:
        release = read_release(options.checkpoint)
        config = compatible(load_model_config(options.config))
        config.text.name = options.text
        net = GroundingNet(config).eval()
    except (OSError, ValueError, KeyboardInterrupt) as error:
        raise SystemExit(f"convert_checkpoint: {str(error) or 'interrupted'}") from error
    result = convert(release.state, net)
    print(describe(result))
    if not result.complete and not options.partial:
        raise SystemExit(
            "convert_checkpoint: nothing is written, because the weights above would stay random. Give the --config "
            "that this checkpoint was trained with, or --partial to write it all the same."
        )
    source = {
        "checkpoint": options.checkpoint.name,
        "epoch": release.epoch,
        "options": release.options,
        "tensors": len(result.loaded),
        "random": result.missing + result.shape,
        "unused": result.unexpected,
    }
    try:
        net.save_pretrained(options.out)
        write_text(options.out / "source.json", json.dumps(source, indent=2) + "\n")
    except OSError as error:
        raise SystemExit(f"convert_checkpoint: {error}") from error
    print(f"{options.out}: weights of {config.name} from {options.checkpoint.name}, epoch {release.epoch}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
