// Cost of pricing: what the simulator pays for a run of decode steps and for a mixed step. Not a test; figures in
// docs/model.md section 5.
#include <benchmark/benchmark.h>

#include "core/model/pricer.h"
#include "core/model/roofline.h"
#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

StepPricer pricer(std::int64_t ranks) {
  const DeviceSpec d = shipped_device("mi300x");
  return {shipped_model("deepseek-v3"),
          d,
          {.dp = ranks, .ep = ranks, .kv_precision = Precision::fp8},
          std::make_shared<RooflineCost>(d)};
}

std::vector<RankLoad> loads(std::int64_t ranks) {
  std::vector<RankLoad> out;
  for (std::int64_t i = 0; i < ranks; ++i)
    out.push_back({static_cast<std::int32_t>(64 + i % 7), (64 + i % 7) * 1500 + i * 977 % 3000});
  return out;
}

void decode_run(benchmark::State& state) {
  const StepPricer p = pricer(state.range(0));
  std::vector<RankLoad> l = loads(state.range(0));
  std::vector<DecodeSegment> out;
  for (auto _ : state) {
    l[0].context_tokens = 90000 + (l[0].context_tokens + 1) % 1000;
    p.decode_run(l, {}, 200, out);
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(decode_run)->Arg(8)->Arg(16)->Arg(32)->Arg(64);

void mixed_step(benchmark::State& state) {
  const StepPricer p = pricer(state.range(0));
  const std::vector<RankLoad> l = loads(state.range(0));
  std::vector<PrefillItem> items{{0, 512, 100}, {0, 700, 0}, {0, 300, 50}};
  for (auto _ : state) {
    items[0].context_before = (items[0].context_before + 1) % 1000;
    benchmark::DoNotOptimize(p.step(items, l, {}));
  }
}
BENCHMARK(mixed_step)->Arg(8)->Arg(16)->Arg(32)->Arg(64);

void dense_decode_run(benchmark::State& state) {
  const DeviceSpec d = shipped_device("mi300x");
  const StepPricer p(shipped_model("dense-7b"), d, {}, std::make_shared<RooflineCost>(d));
  RankLoad l[] = {{64, 90000}};
  std::vector<DecodeSegment> out;
  for (auto _ : state) {
    l[0].context_tokens = 90000 + (l[0].context_tokens + 1) % 1000;
    p.decode_run(l, {}, 200, out);
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(dense_decode_run);

}  // namespace
}  // namespace faultline::model
