#include "core/record/run_codec.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/record/codec.h"

namespace faultline::record {
namespace {

RunRecord sample() {
  RunRecord r;
  r.experiment = "smoke/leaf \"down\"";
  r.seed = std::numeric_limits<std::uint64_t>::max();
  r.end = Instant{123'456'789'012};
  r.gpus = 128;
  r.spare_gpus = 8;
  r.prefill_nodes = 8;
  r.decode_nodes = 9;
  r.instances = 4;
  r.slo_class_names = {"chat", ""};
  r.slo_ttft = {Duration{2'000'000'000}, kForever};
  r.slo_tpot = {Duration{80'000'000}, Duration{0}};
  RequestRecord a;
  a.arrival = Instant{1};
  a.prompt_tokens = 100;
  a.output_tokens = 20;
  a.instance = InstanceId{3};
  a.decode_group = -1;
  a.slo_class = 1;
  a.attempts = 255;
  a.outcome = Outcome::failed;
  a.cause = Cause::retries_exhausted;
  a.hit_by = std::uint64_t{1} << 63;
  r.requests = {a, RequestRecord{}};
  r.capacity = {{ComponentId{7}, InstanceId{}, Instant{1}, Instant{2}, 0.25, true, 1}};
  FaultRecord f;
  f.id = "leaf";
  f.kind = "switch.down";
  f.target = "leaf-0";
  f.at = Instant{60};
  f.applied = true;
  f.targeted_components = 33;
  f.own_gpus = {ComponentId{1}, ComponentId{2}};
  f.instances_direct = {InstanceId{0}};
  f.phases.detect = Instant{61};
  f.phases.first_token = Instant{90};
  f.kv_bytes_lost = -1;
  f.recovery = "restart";
  r.faults = {f};
  r.throughput = {{1, 2}, {3, std::numeric_limits<std::int64_t>::max()}};
  r.warnings = {"extrapolated"};
  r.prefix_cache = {1, 2, 3, 4};
  r.cost_model = {"mi300x", "MI300X", "00ff", "2026-01-05", {{"mla_decode", 0.25, "long"}, {"dispatch", 0.125, ""}}};
  r.stats.wall_s = 0.1;
  r.stats.cpu_s = std::numeric_limits<double>::denorm_min();
  r.stats.events = 5;
  r.stats.log_hash = 0xdeadbeef;
  r.stats.fidelity = "step";
  return r;
}

TEST(RunCodec, ReadsBackWhatWasWritten) {
  const RunRecord r = sample(), b = decode_run(encode_run(r));
  EXPECT_EQ(encode_run(b), encode_run(r));
  // The bytes alone would agree if a member were left out of both directions.
  EXPECT_EQ(b.experiment, r.experiment);
  EXPECT_EQ(b.seed, r.seed);
  EXPECT_EQ(b.begin, r.begin);
  EXPECT_EQ(b.end, r.end);
  EXPECT_EQ(b.gpus, 128);
  EXPECT_EQ(b.spare_gpus, 8);
  EXPECT_EQ(b.prefill_nodes, 8);
  EXPECT_EQ(b.decode_nodes, 9);
  EXPECT_EQ(b.instances, 4);
  EXPECT_EQ(b.slo_class_names, r.slo_class_names);
  EXPECT_EQ(b.prefix_cache.asked, 1);
  EXPECT_EQ(b.prefix_cache.hit, 2);
  EXPECT_EQ(b.prefix_cache.evicted, 3);
  EXPECT_EQ(b.prefix_cache.lost, 4);
  EXPECT_EQ(b.slo_ttft, r.slo_ttft);
  EXPECT_EQ(b.slo_tpot, r.slo_tpot);
  ASSERT_EQ(b.requests.size(), 2U);
  EXPECT_EQ(b.requests[0].arrival, Instant{1});
  EXPECT_EQ(b.requests[0].first_token, kNever);
  EXPECT_EQ(b.requests[0].decode_group, -1);
  EXPECT_EQ(b.requests[0].attempts, 255);
  EXPECT_EQ(b.requests[0].outcome, Outcome::failed);
  EXPECT_EQ(b.requests[0].cause, Cause::retries_exhausted);
  EXPECT_EQ(b.requests[0].hit_by, r.requests[0].hit_by);
  EXPECT_FALSE(b.requests[1].instance.valid());
  ASSERT_EQ(b.capacity.size(), 1U);
  EXPECT_EQ(b.capacity[0].usable, 0.25);
  EXPECT_TRUE(b.capacity[0].own);
  ASSERT_EQ(b.faults.size(), 1U);
  EXPECT_EQ(b.faults[0].own_gpus, r.faults[0].own_gpus);
  EXPECT_EQ(b.faults[0].instances_direct, r.faults[0].instances_direct);
  EXPECT_EQ(b.faults[0].phases.detect, Instant{61});
  EXPECT_EQ(b.faults[0].phases.drain, kNever);
  EXPECT_EQ(b.faults[0].phases.first_token, Instant{90});
  EXPECT_EQ(b.faults[0].kv_bytes_lost, -1);
  EXPECT_EQ(b.faults[0].recovery, "restart");
  ASSERT_EQ(b.throughput.size(), 2U);
  EXPECT_EQ(b.throughput[1].prefill_tokens, r.throughput[1].prefill_tokens);
  EXPECT_EQ(b.warnings, r.warnings);
  EXPECT_EQ(b.cost_model.name, "mi300x");
  EXPECT_EQ(b.cost_model.hardware, "MI300X");
  EXPECT_EQ(b.cost_model.hash, "00ff");
  EXPECT_EQ(b.cost_model.software_date, "2026-01-05");
  ASSERT_EQ(b.cost_model.extrapolated.size(), 2U);
  EXPECT_EQ(b.cost_model.extrapolated[0].op, "mla_decode");
  EXPECT_EQ(b.cost_model.extrapolated[0].share, 0.25);
  EXPECT_EQ(b.cost_model.extrapolated[0].why, "long");
  EXPECT_EQ(b.stats.wall_s, 0.1);
  EXPECT_EQ(b.stats.cpu_s, r.stats.cpu_s);
  EXPECT_EQ(b.stats.log_hash, 0xdeadbeefU);
  EXPECT_EQ(b.stats.fidelity, "step");
}

TEST(RunCodec, CutAtAnyByteItIsRefused) {
  const std::string bytes = encode_run(sample());
  for (std::size_t n = 0; n < bytes.size(); ++n)
    EXPECT_THROW(decode_run(bytes.substr(0, n)), CodecError) << "cut at " << n;
}

TEST(RunCodec, BytesAfterItsEndAreRefused) { EXPECT_THROW(decode_run(encode_run(sample()) + "x"), CodecError); }

}  // namespace
}  // namespace faultline::record
