#!/usr/bin/env bash
# What each teacher brings: methods, their controls and the student alone, three seeds each, with all and with a tenth of
# the sentences. Two runs at a time on a core each. What is done is kept: call it again to go on.
#   benchmarks/distillation.sh DATA INIT OUT [STEPS] [LARGE]
# INIT: weights that all start from, their head left out; "" for none. LARGE: weights folder of a larger teacher; without it
# "large-to-tiny" is left out. "lar" needs pip install tsp3d[views], and time for its views (configs/distill/lar.yaml).
# "coarse-to-fine", "coarse-to-fine-coarse" and "coarse-to-fine-chance" need PROPOSER, a run of stage=detection.
# "lar-hint" is "lar" whose voxels foretell the encoder's features, too, by the weight HINT.
# "pseudo-labels" has UNLABELLED further sentences of a room, and needs a share below 1.
# By the environment: METHODS, CONTROLLED (those of them that get controls), SEEDS, SHARES, TEACHER (of "born-again"; SEED
# in it stands for the seed), SCENES and QUERIES (of the validation; 0 for all), TRAIN (more key=value), EVALUATE (more
# options of tools/evaluate.py).
set -euo pipefail
data=$1 init=$2 out=$3 steps=${4:-400} large=${5:-}
teacher=${TEACHER:-tsp3d-tiny}
methods=${METHODS:-born-again born-again-ema head lar${large:+ large-to-tiny}}
export teacher data init out steps large python=${PYTHON:-.venv/bin/python} OMP_NUM_THREADS=1
mkdir -p "$out"

one() {  # METHOD CONTROL SEED SHARE
    local run=$out/$1.$2.seed$3.share$4 method=() changes=()
    [ ! -e "$run/report/report.json" ] || return 0
    case $1 in
        student) ;;
        born-again-ema) method=(--distill born-again) changes=(distill.teacher=ema) ;;
        born-again) method=(--distill born-again) changes=("distill.teacher=${teacher//SEED/$3}") ;;
        large-to-tiny) method=(--distill large-to-tiny) changes=("distill.teacher=$large") ;;
        lar) method=(--distill lar) changes=(distill.keep=true) ;;  # for tools/evaluate.py --two-streams
        lar-hint) method=(--distill lar) changes=(distill.feature_weight="${HINT:-2}") ;;
        coarse-to-fine*)
            method=(--distill coarse-to-fine)
            changes=("distill.proposer=${PROPOSER:-$init}" "distill.all_steps=$((steps / 2))")
            [ "$1" = coarse-to-fine ] || changes+=("distill.ranking=${1#coarse-to-fine-}") ;;
        pseudo-labels) method=(--distill "$1") changes=("data.unlabelled_sentences=${UNLABELLED:-6}") ;;
        *) method=(--distill "$1") ;;
    esac
    [ "$2" = none ] || changes+=("distill.control=$2")
    # Two rooms a step for all, since the shuffled control needs two.
    "$python" tools/train.py --config configs/train/tiny.yaml --resume "${method[@]}" out="$out" name="${run##*/}" \
        seed="$3" threads=1 data.folder="$data" data.scenes_per_step=2 data.bare_scenes=0 data.sentences_per_scene=7 \
        data.sentence_share="$4" optim.steps="$steps" optim.max_minutes=0 ${init:+"init_from=$init"} strict=false \
        "init_skip=[head.]" log.validate_every=0 ${TRAIN:-} "${changes[@]}" >> "$run.log" 2>&1 &&
        "$python" tools/evaluate.py --data "$data" --model "$run/export" --out "$run/report" \
            --limit "${SCENES:-0}" --queries "${QUERIES:-16}" --timing 0 ${EVALUATE:-} >> "$run.log" 2>&1 &&
        rm -rf "$run/checkpoints" || { echo "failed: see $run.log" >&2; return 1; }
}
export -f one

for seed in ${SEEDS:-0 1 2}; do
    for share in ${SHARES:-1 0.1}; do
        echo "student none $seed $share"
        for method in $methods; do
            echo "$method none $seed $share"
            [[ " ${CONTROLLED-$methods} " != *" $method "* ]] || printf '%s\n' "$method "{random,shuffled}" $seed $share"
        done
    done
done | xargs -P 2 -L 1 bash -c 'one "$@"' one

"$python" benchmarks/distillation_table.py "$out"
