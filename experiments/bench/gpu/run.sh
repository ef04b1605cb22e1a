#!/usr/bin/env bash
# Checks and measures the CUDA backend on a machine with a GPU, in bounded steps, the most telling
# first; each writes at once, so that a kill loses only what was under way (of the benchmark, what is left).
#   experiments/bench/gpu/run.sh BUILD OUTPUT [SECONDS]
# BUILD holds moerl_test_cuda, moerl_bench_gpu, moerl, libmoerl_cublaslt.so and libmoerl_nccl.so side by side (built
# here or carried, with the libraries that they name in BUILD/lib); OUTPUT gets log.txt, steps.txt, the raw figures and
# report.md. Exits with 1, naming the steps, if any failed. compute-sanitizer is left out where there is
# none; without PyTorch its step fails and its columns stay empty.
set -uo pipefail
build=${1:?BUILD} out=${2:?OUTPUT} budget=${3:-560}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../../..
failed=
mkdir -p "$out"
export LD_LIBRARY_PATH=$build/lib:${LD_LIBRARY_PATH:-} MOERL_REQUIRE_GPU=1 CUDA_MODULE_LOADING=EAGER

# step NAME SECONDS COMMAND...: the command, for at most so long and no longer than the budget.
step() {
  local name=$1 limit=$2 left=$((budget - SECONDS)) began=$SECONDS code=0
  shift 2
  if [ "$left" -lt 10 ]; then
    echo "$name: no time left" | tee -a "$out/steps.txt"
    failed="$failed $name"
    return
  fi
  [ "$limit" -gt $((left - 5)) ] && limit=$((left - 5))
  echo "== $name" >>"$out/log.txt"
  timeout -k 3 "$limit" "$@" >>"$out/log.txt" 2>&1 || code=$?
  [ "$code" -eq 0 ] || failed="$failed $name"
  echo "$name: exit code $code, $((SECONDS - began)) s of $limit s" | tee -a "$out/steps.txt"
}

step machine 20 nvidia-smi
step tests 120 "$build/moerl_test_cuda" --gtest_brief=1
if command -v compute-sanitizer >/dev/null; then
  small='*LinearWgmma*:*Swiglu*:*Layout*:*SortByExpert*:*MmaAttention*:*TopkGate*'
  for tool in memcheck racecheck; do
    step $tool 60 compute-sanitizer --tool $tool --error-exitcode 9 \
      "$build/moerl_test_cuda" --gtest_brief=1 --gtest_filter="$small"
  done
fi
step countdown 150 "$build/moerl" train "$root/experiments/configs/countdown.yaml" \
  --run-dir "$out/countdown" device=cuda stages.1.total_training_steps=5
step bench 130 "$build/moerl_bench_gpu" --benchmark_out="$out/moerl.json" --benchmark_out_format=json
step torch 110 python3 "$here/torch_ops.py" "$out/torch.json"
step report 20 python3 "$here/table.py" "$out" "$out/report.md"
[ -z "$failed" ] || { echo "failed:$failed; see $out/log.txt" >&2; exit 1; }
