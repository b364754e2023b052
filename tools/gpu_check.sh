#!/usr/bin/env bash
# What only a GPU can tell of the CUDA kernels, in one call: build, tests, compute-sanitizer.
#
#   tools/gpu_check.sh OUT
#
# OUT gets report.md and a log of each step. Without nvcc, or with BUILD=0, a library that is there already
# (tsp3d/_C_cuda.so) is tested.
# Environment: PYTHON, CUDA_HOME (default /usr/local/cuda, else that of the nvcc on the path), STEP_SECONDS (default 240)
# for each of the later steps, TOTAL_SECONDS (default 570) for all: what would begin later is left out. Python needs what
# tsp3d imports (pyproject.toml), setuptools 77, pytest, pytest-benchmark and hypothesis; PYTHONPATH may name a folder that
# holds them.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: tools/gpu_check.sh OUT}
python=${PYTHON:-python3} seconds=${STEP_SECONDS:-240} total=${TOTAL_SECONDS:-570}
[ -n "${CUDA_HOME:-}" ] || [ -x /usr/local/cuda/bin/nvcc ] || ! nvcc=$(command -v nvcc) ||
    CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda} PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$out"
out=$(cd "$out" && pwd)
failed=0

say() { printf '%s\n' "$*" | tee -a "$out/report.md"; }
step() {  # name, seconds, command...
    local name=$1 limit=$2 begin=$SECONDS left=$((total - SECONDS)) result
    shift 2
    if [ "$left" -lt 20 ]; then
        say "| $name | FAILED | | no time: $left s are left of TOTAL_SECONDS=$total |"
        failed=1
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
    if timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1; then result=passed; else result="FAILED ($?)" failed=1; fi
    say "| $name | $result | $((SECONDS - begin)) s | $(grep -iE 'passed|failed|error' "$out/$name.log" | tail -n 1 | tr '|=' '  ') |"
}
# After an error that the device does not come back from tests/conftest.py ends the run: once more without that test.
tests() {  # name, seconds, command...
    local turn lost without=()
    for turn in "$1" "$1-2" "$1-3" "$1-4"; do
        step "$turn" "$2" "${@:3}" ${without[@]+"${without[@]}"}
        lost=$(sed -n 's/.*the GPU is lost after //p' "$out/$turn.log" 2>/dev/null | head -n 1)
        [ -n "$lost" ] || return
        without+=(--deselect "${lost%% *}")
    done
}
skip() { say "| $1 | skipped | | $2 |"; }

: >"$out/report.md"
say "# CUDA kernels on a GPU, $(date -u +%F)"
say ""
say "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo 'no nvidia-smi')" \
    "· commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
say ""
say "| step | result | time | last words |"
say "|---|---|---|---|"
architecture=$(timeout 120 "$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())' 2>>"$out/report.log") || {
    say "| torch | FAILED | | no CUDA device that torch can use: $(tail -n 1 "$out/report.log") |"
    exit 1
}
# Before the build, which takes minutes.
step imports 120 "$python" -c 'import hypothesis, pytest, pytest_benchmark, setuptools, tsp3d.sparse'
[ "$failed" = 0 ] || exit 1
if [ "${BUILD:-1}" != 0 ] && [ -x "$CUDA_HOME/bin/nvcc" ]; then
    # With the lines of the source, which compute-sanitizer then names.
    step build 590 env NVCCFLAGS="-lineinfo ${NVCCFLAGS:-}" TSP3D_CUDA=only TSP3D_CUDA_ARCHS="$architecture" \
        "$python" setup.py build_ext --inplace
    [ "$failed" = 0 ] || exit 1
elif compgen -G 'tsp3d/_C_cuda*.so' >/dev/null; then
    skip build "no $CUDA_HOME/bin/nvcc, or BUILD=0; the library that is there is tested"
else
    say "| build | FAILED | | neither $CUDA_HOME/bin/nvcc nor tsp3d/_C_cuda.so |"
    exit 1
fi
step info 120 "$python" -m tsp3d.info
step loaded 120 "$python" -c 'from tsp3d.sparse import ops; assert not ops.ON_REFERENCE_CUDA, ops.ON_REFERENCE_CUDA'

pytest=("$python" -m pytest -v --tb=short --continue-on-collection-errors -p no:cacheprovider -m "gpu and not slow")
tests tests "$seconds" "${pytest[@]}" tests/sparse --durations 10

# Every allocation of its own, so that a step past its end is seen.
sanitizer=$(command -v compute-sanitizer || ls "$CUDA_HOME/bin/compute-sanitizer" 2>/dev/null)
if [ -n "$sanitizer" ]; then
    export PYTORCH_NO_CUDA_MEMORY_CACHING=1
    # The test of tf32 runs in a process of its own. Failed calls are not reported: libraries probe the driver by them.
    check=("$sanitizer" --error-exitcode 9 --target-processes all)
    tests memcheck "$seconds" "${check[@]}" --tool memcheck --report-api-errors no "${pytest[@]}" tests/sparse/test_ops.py \
        tests/sparse/test_planned.py -k 'compiled_equals_reference or half_precision or depend_on_the_choice or tf32'
    tests racecheck "$seconds" "${check[@]}" --tool racecheck "${pytest[@]}" tests/sparse/test_ops.py -k \
        'compiled_equals_reference and (conv or weight_grad or sort_map or pool or kernel_map or unique or nms) or half_precision or tf32'
    tests synccheck "$seconds" "${check[@]}" --tool synccheck "${pytest[@]}" tests/sparse/test_ops.py \
        -k 'compiled_equals_reference and (conv or weight_grad or sort_map or pool or kernel_map or nms)'
else
    skip sanitizer "no compute-sanitizer; it comes with the CUDA toolkit"
fi
exit "$failed"
