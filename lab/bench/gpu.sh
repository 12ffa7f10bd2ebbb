#!/usr/bin/env bash
# Measure fourierft on a GPU: at most eight minutes on an H200, from a bare checkout, with nothing to download.
#
#   lab/bench/gpu.sh              rows to lab/bench/results, tables to docs/gpu.md
#   OUT=folder lab/bench/gpu.sh   both to a folder: rows as JSON lines, the page as gpu.md
#   lab/bench/gpu.sh --dry        the same code at tiny shapes on a CPU: no row is kept for the documents
#
# Python needs torch, peft and transformers; without Triton there is no kernel to measure. PYTHON names another
# interpreter. Every stage has a time of its own. One that fails, or takes too long, is told of at the end; its rows so
# far stay, the others run, and the exit status is 1.
set -u
cd "$(dirname "$0")/../.." || exit 2

dry=
case "$*" in
"") ;;
--dry) dry=1 ;;
*)
    echo "usage: [OUT=folder] [PYTHON=python3] lab/bench/gpu.sh [--dry], not: $*" >&2
    exit 2
    ;;
esac
python=${PYTHON:-python3}
export PYTHONPATH=src:.${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
ledger=lab/bench/results
results=${OUT:-$ledger}
if [ -n "$dry" ]; then
    results=${OUT:-$(mktemp -d)} || exit 2
    settings="--device cpu --grid smoke --rounds 1 --threads 1"
else
    settings="--device cuda --rounds 5"
fi
mkdir -p "$results" || exit 2
if [ -n "$dry" ] && [ "$(cd "$results" && pwd -P)" = "$(cd "$ledger" && pwd -P)" ]; then
    echo "gpu.sh: OUT=$OUT is where measured rows are kept; a dry run needs another folder" >&2
    exit 2
fi
if ! missing=$("$python" -c '
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))' torch peft transformers tqdm 2>/dev/null); then
    echo "gpu.sh: $python does not run; name an interpreter by PYTHON" >&2
    exit 2
fi
if [ -n "$missing" ]; then
    echo "gpu.sh: $python lacks $missing; name one that has them by PYTHON" >&2
    exit 2
fi

failed=()
# stage SECONDS SUITE DTYPE: measure a suite
stage() {
    echo "== $2, $3: at most $1 s"
    # shellcheck disable=SC2086
    timeout --kill-after=5 "$1" "$python" -m lab bench "$2" --dtype "$3" $settings --fresh --keep-going \
        --output "$results" || failed+=("$2 in $3 (exit status $?)")
}
stage 80 gpu_kernels bfloat16
stage 60 gpu_kernels float32
stage 50 gpu_kernels float16
stage 140 gpu_layer bfloat16
stage 110 gpu_rows bfloat16

page=docs/gpu.md
[ "$results" = "$ledger" ] || page=$results/gpu.md
timeout 30 "$python" -m lab bench limits --results "$results" --page "$page" ${dry:+--smoke} >/dev/null ||
    failed+=("the page $page (exit status $?)")

echo "== rows in $results, page in $page"
for name in ${failed[@]+"${failed[@]}"}; do
    echo "FAILED: $name" >&2
done
[ ${#failed[@]} -eq 0 ]
