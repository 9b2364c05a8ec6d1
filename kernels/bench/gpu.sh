#!/bin/bash
# Everything that a GPU host is asked for, in one command: builds the kernels alone, tests them on the GPU (also under compute-sanitizer),
# times them, compares with PyTorch where it is installed, and leaves logs, op log and tables in one folder.
#
#   kernels/bench/gpu.sh OUT [build] [test] [sanitize] [bench] [graph] [peer]        (no step named: all of them)
#
# Needs CMake, Ninja, g++ 12 or newer, nvcc (or clang++-19 for MI300X), GoogleTest, nlohmann-json; PyTorch for peer, compute-sanitizer for sanitize.
# SHAPES="list list" overrides the shape lists, CMAKE_ARGS adds to the configuration, TESTS is a GoogleTest filter.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:?usage: kernels/bench/gpu.sh OUT [steps]}; shift
steps=${*:-build test sanitize bench graph peer}
shapes=${SHAPES:-deepseek_v3/ep8/decode deepseek_v3/ep8/prefill deepseek_v3/ep16/decode deepseek_v3/ep16/prefill deepseek_v3/tp8/decode deepseek_v3/tp8/prefill}
bin=build/gpu/bin; mkdir -p "$out"; failed=""
has() { [[ " $steps " == *" $1 "* ]]; }
step() { echo "== $1"; shift; local began=$SECONDS; "$@" || failed="$failed $1"; echo "   $((SECONDS - began)) s"; }

build() { cmake --preset gpu ${CMAKE_ARGS:-} > "$out/configure.log" 2>&1 && cmake --build --preset gpu > "$out/build.log" 2>&1 || { tail -30 "$out/build.log"; return 1; }; }
test_all() {
  FAULTLINE_GPU=1 $bin/test_kernels --gtest_filter="${TESTS:-*}" > "$out/test_gpu.log" 2>&1; local rc=$?
  grep -E "^\[  (PASSED|FAILED|SKIPPED)|tokens (of|each)|prompts (drawn|compared)" "$out/test_gpu.log"; return $rc
}
# The sanitizers make kernels tens of times slower: what they run has small shapes, ragged and empty ones among them.
sanitized="Gemm.*:Mla*:Gqa*:Attention.*:FusedMoe.*:Router.*:Exchange.*:RmsNorm.*:Embed.*:Sample.*Device*:Sample.Not*:Probe.*:Quantize.*:Fp8.EveryDevice*:-*Refused*:*LargeProblems*"
sanitize() {
  local rc=0
  for tool in memcheck racecheck; do
    FAULTLINE_GPU=1 timeout 240 compute-sanitizer --tool $tool --error-exitcode 9 $bin/test_kernels --gtest_filter="${TESTS:-$sanitized}" --gtest_brief=1 > "$out/$tool.log" 2>&1 || rc=1
    echo "$tool: $(grep -E "SUMMARY|PASSED|FAILED  " "$out/$tool.log" | tr '\n' ' ')"
  done
  return $rc
}
bench() { $bin/bench_kernels --device gpu --seconds 0.05 $(printf -- '--shapes %s ' $shapes) --log "$out/ops.jsonl" 2>&1 | tee "$out/bench.txt"; }
graph() { $bin/bench_kernels --device gpu --graph 2>&1 | tee "$out/graph.txt"; }
peer() { python3 kernels/bench/torch_peer.py "$out/ops.jsonl" --seconds 0.05 --out "$out/peer.jsonl" 2>&1 | tee "$out/peer.txt"; }

has build && step build build
has test && step test test_all
has sanitize && step sanitize sanitize
has bench && step bench bench
has graph && step graph graph
has peer && step peer peer
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
