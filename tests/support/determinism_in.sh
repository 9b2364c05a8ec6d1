#!/usr/bin/env bash
# One seed gives one event log in every build. Builds test_sim by a preset (debug: g++ without optimisation; clang) and runs
# Determinism.*, whose hashes are committed. Exit status 77: skipped, and why.
# Cost: the first time a whole build of core, sim and their tests (about 130 files), later what has changed; 1 s to run.
#   determinism_in.sh SOURCE_DIR PRESET
set -u
root=$1 preset=$2
if [ "$preset" = clang ] && ! command -v clang++ >/dev/null; then
  echo "[  SKIPPED ] determinism_in_$preset (no clang++ on this machine)"
  exit 77
fi
build=$root/build/$preset
log=$build.log
mkdir -p "$root/build" 2>/dev/null || true
if ! touch "$log" 2>/dev/null; then
  echo "[  SKIPPED ] determinism_in_$preset (cannot write to $root/build)"
  exit 77
fi
echo "building test_sim in $build"
if ! (cd "$root" && cmake --preset "$preset" && ninja -C "$build" test_sim) >"$log" 2>&1; then
  grep -E "error|FAILED" -A3 "$log" | tail -n 40
  echo "the $preset build failed (the whole log: $log)"
  exit 1
fi
exec "$build/bin/test_sim" --gtest_filter='Determinism.*'
