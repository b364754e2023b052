"""What the proposals of weak supervision are worth, without any understanding of a sentence:
python tools/evaluate_proposals.py --data data/synth --run runs/tiny-detection
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from tsp3d.data.datasets import Kind, open_dataset
from tsp3d.distill.coarse_to_fine import CoarseToFineConfig
from tsp3d.distill.methods import load_distill_config
from tsp3d.distill.proposal_eval import evaluate_proposals
from tsp3d.distill.proposals import load_proposer
from tsp3d.pretrained import pick_device


@dataclass
class Args:
    """Accuracy of a random proposal (chance) and of the best one (best), in percent, as one line of JSON."""

    data: Path
    """Dataset folder, as tools/make_synth.py or tools/prepare_scannet.py writes."""
    run: Path
    """Folder of a run of stage=detection."""
    dataset: Kind = "synth"
    """Dataset that the sentences come from."""
    split: str = "val"  # Split of the dataset.
    annotations: Path | None = None
    """Annotation file of scanrefer, nr3d, sr3d or multi3drefer."""
    distill: str = "coarse-to-fine"
    """Configuration that says which proposals are made, and how many."""
    skip_missing: bool = False
    """Leave out sentences whose scene or object was not prepared."""
    limit: int = 0
    """At most this many scenes, at even distances; 0 for all."""
    queries: int = 16
    """At most this many sentences of each scene; 0 for all."""
    device: str = "auto"
    """auto, cpu or cuda."""


def main(args: Args) -> None:
    """Evaluate and print."""
    try:
        config = load_distill_config(args.distill)
        if not isinstance(config, CoarseToFineConfig):
            raise ValueError(f"{args.distill} has no proposals; name a configuration of coarse-to-fine")
        proposer = load_proposer(args.run).to(pick_device(args.device))
        scenes = open_dataset(args.dataset, args.data, args.split, args.annotations, args.skip_missing)
        found = evaluate_proposals(proposer, scenes, config, args.limit, args.queries)
    except (ImportError, OSError, ValueError, KeyboardInterrupt) as error:
        raise SystemExit(f"evaluate_proposals: {str(error) or 'interrupted'}") from error
    print(json.dumps(found))


if __name__ == "__main__":
    main(tyro.cli(Args))
