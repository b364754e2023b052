#!/usr/bin/env bash
# The engine against spconv's CUDA wheel and the plain-PyTorch reference on one GPU, all in one call.
#
#   benchmarks/gpu_engine.sh OUT
#
# Maps, single layers and a backbone of tsp3d-base's widths and depths, forward and backward, in float32, tf32 and float16;
# every result is checked before it is timed, and a large matrix product of the same precision is timed in the same rounds
# (the column "of sgemm" is the share of that). OUT gets report.md, a JSON, a plot and a log of each precision, and in tuning/
# what the tuner chose.
# Environment: PYTHON; WHEELS, a folder with the wheels of spconv and of all that it needs, numpy too, for a machine without
# an index; SPCONV=0 leaves spconv out;
# PRECISIONS, VOXELS, CHANNELS, BACKBONE, BLOCKS, ROUNDS for less than all; STEP_SECONDS (default 240) for each precision,
# TOTAL_SECONDS (default 570) for all: what would begin later is left out;
# DEVICE=cpu tries the script itself.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: benchmarks/gpu_engine.sh OUT}
python=${PYTHON:-python3} device=${DEVICE:-cuda} seconds=${STEP_SECONDS:-240} total=${TOTAL_SECONDS:-570}
read -ra precisions <<<"${PRECISIONS:-float32 tf32 float16}"
read -ra voxels <<<"${VOXELS:-184576}"
read -ra channels <<<"${CHANNELS:-16 32 64 128 256}"
read -ra backbone <<<"${BACKBONE:-64 128 128 128}"
read -ra blocks <<<"${BLOCKS:-3 4 6 3}"
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} TSP3D_CACHE=${TSP3D_CACHE:-$out}
failed=0 peers=reference

say() { printf '%s\n' "$*" | tee -a "$out/report.md"; }
: >"$out/report.md"
say "# The engine on $device, $(date -u +%F)"
say ""
say "$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader 2>/dev/null || echo 'no nvidia-smi')" \
    "· commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
say ""
if [ "$device" = cuda ] && ! "$python" -c 'import torch; torch.zeros(1).cuda()' 2>"$out/torch.log"; then
    say "torch has no CUDA device: $(tail -n 1 "$out/torch.log")"
    exit 1
fi
if [ "$device" = cuda ] && ! "$python" -c 'from tsp3d.sparse import ops; assert not ops.ON_REFERENCE_CUDA' 2>"$out/kernels.log"; then
    say "the CUDA kernels are not built: run tools/gpu_check.sh first ($(tail -n 1 "$out/kernels.log"))"
    exit 1
fi

# In a folder of its own: the environment stays as it is, and keeps its numpy.
if [ "${SPCONV:-1}" != 0 ] && ! "$python" -c 'import spconv.pytorch' 2>/dev/null; then
    folder=$(mktemp -d) source=(--retries 1)
    trap 'rm -rf "$folder"' EXIT
    [ -z "${WHEELS:-}" ] || source=(--no-index --find-links "$WHEELS")
    if timeout 120 "$python" -m pip install -q --target "$folder" "${source[@]}" spconv-cu126==2.3.8 >"$out/spconv.log" 2>&1; then
        rm -rf "$folder"/numpy*
        export PYTHONPATH=$PYTHONPATH:$folder
    fi
fi
if [ "${SPCONV:-1}" != 0 ] && "$python" -c 'import spconv.pytorch' 2>>"$out/spconv.log"; then
    peers=reference,spconv
else
    say "spconv is left out: $(tail -n 1 "$out/spconv.log" 2>/dev/null || echo 'SPCONV=0')"
    say ""
fi

for precision in "${precisions[@]}"; do
    say "## $precision"
    say ""
    left=$((total - SECONDS))
    if [ "$left" -lt 20 ]; then
        say "FAILED: no time, $left s are left of TOTAL_SECONDS=$total"
        failed=1
        continue
    fi
    tf32=0
    [ "$precision" != tf32 ] || tf32=1
    if TSP3D_TF32=$tf32 timeout -k 10 "$((seconds < left ? seconds : left))" "$python" tools/benchmark.py engine --device "$device" --precision "$precision" \
        --peers "$peers" --voxels "${voxels[@]}" --channels "${channels[@]}" --backbone "${backbone[@]}" \
        --blocks "${blocks[@]}" --rounds "${ROUNDS:-7}" --backward --json "$out/engine-$precision.json" \
        >"$out/$precision.log" 2>&1; then
        say '```'
        say "$(cat "$out/$precision.log")"
        say '```'
    else
        say "FAILED ($?), after:"
        say '```'
        say "$(tail -n 40 "$out/$precision.log")"
        say '```'
        failed=1
    fi
    say ""
done
exit "$failed"
