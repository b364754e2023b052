#!/bin/sh
# Four equal runs with and without pruning (TGP) and completion (CBA), two at a time on a core each, then their table.
#   benchmarks/ablation.sh DATA INIT OUT [STEPS] [SENTENCES]
# INIT: weights that all four start from, their head left out.
set -eu
data=$1 init=$2 out=$3 steps=${4:-4000} sentences=${5:-14}
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1
mkdir -p "$out"

one() {
    "$python" tools/train.py --config "configs/train/ablation-$1.yaml" out="$out" threads=1 data.folder="$data" \
        data.sentences_per_scene="$sentences" data.bare_scenes=0 optim.steps="$steps" optim.max_minutes=0 \
        init_from="$init" strict=false "init_skip=[head.]" log.validate_every=0 > "$out/$1.log" 2>&1
    "$python" tools/evaluate.py --data "$data" --model "$out/ablation-$1/export" --out "$out/report-$1" \
        --queries 8 --timing 0 >> "$out/$1.log" 2>&1
}
# The two without pruning take several times as long: each core gets one of them.
(one baseline && one both) & first=$!
(one cba && one tgp) & second=$!
wait $first && wait $second
for run in baseline tgp cba both; do  # alone on the machine
    "$python" tools/evaluate.py --data "$data" --model "$out/ablation-$run/export" --out "$out/speed-$run" \
        --limit 1 --queries 1 --timing 20 >> "$out/$run.log" 2>&1
done

"$python" - "$out" <<'TABLE'
import json, sys
from pathlib import Path

print("| | Acc@0.25 | Acc@0.5 | unique | multiple | new scene and sentence, ms | new sentence, ms |\n|---|---|---|---|---|---|---|")
for run, name in (("baseline", "baseline"), ("tgp", "+ TGP"), ("cba", "+ CBA"), ("both", "both")):
    groups = json.loads(Path(sys.argv[1], f"report-{run}", "report.json").read_text())["groups"]
    speed = json.loads(Path(sys.argv[1], f"speed-{run}", "report.json").read_text())["timings_ms"]
    accuracy = [groups["overall"]["acc@0.25"], groups["overall"]["acc@0.5"]]
    accuracy += [groups[group]["acc@0.25"] for group in ("unique", "multiple")]
    times = [speed[key] for key in ("cold", "warm")]
    print("|", " | ".join([name, *(f"{value:.1f}" for value in accuracy), *(f"{value:.0f}" for value in times)]), "|")
TABLE
