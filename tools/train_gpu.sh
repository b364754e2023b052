#!/usr/bin/env bash
# Trains tsp3d-tiny on one GPU, all in one call: rooms, backbone, sentences, evaluation.
#
#   tools/train_gpu.sh OUT MINUTES [FURNITURE]
#
# OUT gets the exported weights and the report. MINUTES is for the two training stages together. FURNITURE is a folder with
# the Sweet Home 3D libraries or the cache that tools/make_synth.py made of them; without it rooms are parametric only.
# Called again with the same arguments it goes on where it was: rooms are kept, training resumes. Environment: PYTHON,
# ROOMS (default 4000), WORK (default runs/gpu).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?tools/train_gpu.sh OUT MINUTES [FURNITURE]} minutes=${2:?minutes of training} furniture=${3:-}
python=${PYTHON:-python3} rooms=${ROOMS:-4000} work=${WORK:-runs/gpu}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
mkdir -p "$out" "$work"

"$python" -c 'import torch; assert torch.cuda.is_available(), "no CUDA device: use tools/train.py on the CPU"'
assets=(--parametric-only)
[ -z "$furniture" ] || assets=(--assets "$furniture")
"$python" tools/make_synth.py --out "$work/synth" --train "$rooms" --val 150 --seed 0 --workers "$(nproc)" "${assets[@]}" \
    --max-points 60000 --sentences 40

stage() {  # name, configuration, minutes, further settings
    local resume=()
    [ ! -d "$work/$1/checkpoints" ] || resume=(--resume)
    "$python" tools/train.py --config "$2" "${resume[@]}" name="$1" out="$work" data.folder="$work/synth" \
        optim.max_minutes="$3" "${@:4}"
}
detection=$((minutes / 5 > 0 ? minutes / 5 : 1))
stage detection configs/train/gpu-detection.yaml "$detection"
stage grounding configs/train/gpu.yaml "$((minutes - detection))" init_from="$work/detection"
cp -r "$work/grounding/export/." "$out/tsp3d-tiny"  # into it, where an earlier call has made it
"$python" tools/evaluate.py --data "$work/synth" --split val --model "$work/grounding/export" --out "$out/evaluation"
