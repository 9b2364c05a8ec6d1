#include "kernels/bench/bench.h"

#include "kernels/bench/plain.h"
#include "kernels/runtime/code_objects.h"
#include "support.h"

namespace faultline::kernels::bench {
namespace {

TEST(Bench, EveryListHasItsShapesAndUnknownOnesAreRefusedWithTheNames) {
  for (const auto& name : list_names()) {
    const auto cases = list(name);
    EXPECT_FALSE(cases.empty()) << name;
    for (const Case& c : cases) {
      EXPECT_GT(c.bytes, 0) << name << " " << c.op.name;
      EXPECT_FALSE(c.op.kind.empty());
    }
  }
  try {
    (void)list("deepseek_v3/ep7/decode");
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find("deepseek_v3/ep16/decode"), std::string::npos);
  }
}

TEST(Bench, DeepSeekShapesFollowFromThePublishedConfiguration) {
  const auto cases = list("deepseek_v3/ep8/decode");
  const auto& down = cases.front();
  EXPECT_EQ(down.op.name, "qkv_down");
  EXPECT_EQ(down.op.n, 2112);  // 1536 + 512 + 64
  EXPECT_EQ(down.op.k, 7168);
  double heads_tp = 0;
  for (const auto& c : list("deepseek_v3/tp8/decode"))
    if (c.op.name == "mla_decode") heads_tp = static_cast<double>(c.op.heads);
  EXPECT_EQ(heads_tp, 16);
}

TEST(Bench, RunsEveryKindOfCaseAndWritesWhatItMeasured) {
  auto device = make_cpu_device();
  Options options;
  options.seconds = 0;
  options.compare = true;
  options.limits = {1e11, 1e11, 1e10, 1};
  int lines = 0;
  const auto results = run(*device, list("tiny"), options, [&](const Result&) { ++lines; });
  EXPECT_EQ(lines, static_cast<int>(results.size()));
  for (const Result& r : results) {
    EXPECT_EQ(r.skipped, "") << r.c.op.name;
    EXPECT_GT(r.nanoseconds, 0);
    EXPECT_GT(r.roofline, 0);
    EXPECT_EQ(r.c.op.nanoseconds, r.nanoseconds) << "the op log gets the measured time";
    EXPECT_NE(line(r).find(r.c.op.name), std::string::npos);
  }
}

TEST(Bench, ACaseBeyondTheMemoryLimitIsSkippedVisibly) {
  auto device = make_cpu_device();
  Options options;
  options.memory_limit = 1000;
  const auto results = run(*device, {list("tiny").front()}, options, {});
  EXPECT_NE(results[0].skipped.find("MB"), std::string::npos);
  EXPECT_NE(line(results[0]).find("skipped"), std::string::npos);
}

TEST(Bench, ThePlainLoopsComputeTheSameAsTheReferences) {
  test::Random random(110);
  const PlainLoops loops = plain_loops();
  // MLA: codes by a table, softmax scale 0.01 on decoded values.
  const int heads = 2, tokens = 30;
  const auto q = test::random_codes(random, heads * 576), cache = test::random_codes(random, tokens * 576);
  std::vector<float> table, scores(tokens), out(heads * 512);
  for (int i = 0; i < 256; ++i)
    table.push_back(i == 0x80 ? 0.0F : fp8_decode(static_cast<std::uint8_t>(i), Fp8Format::fnuz));
  loops.mla_decode(q.data(), cache.data(), tokens, heads, 1e-4F, table.data(), scores.data(), out.data());
  const auto dq = test::decoded(q), dk = test::decoded(cache);
  reference::Matrix dv;
  for (int t = 0; t < tokens; ++t) dv.insert(dv.end(), dk.begin() + t * 576, dk.begin() + t * 576 + 512);
  for (int h = 0; h < heads; ++h) {
    const auto expected = reference::attend({dq.data() + h * 576, 576}, dk, dv, tokens, 576, 512, 1e-4);
    for (int d = 0; d < 512; ++d)
      ASSERT_NEAR(static_cast<double>(out[static_cast<std::size_t>(h * 512 + d)]),
                  expected[static_cast<std::size_t>(d)], 1e-3);
  }
  std::vector<float> logits(256), bias(256), work(768), weights(8);
  std::vector<int> ids(8);
  for (auto& l : logits) l = random.normal(2);
  for (auto& b : bias) b = random.normal(0.1F);
  loops.route(logits.data(), bias.data(), 256, 8, 4, 8, 2.5F, ids.data(), weights.data(), work.data());
  EXPECT_EQ(ids, reference::route(logits, bias, 8, 4, 8, 2.5).ids);
}

TEST(CodeObjects, DamagedOnesAreReadAsNothingAndNeverOutside) {
  if (gfx942_code().empty()) GTEST_SKIP() << "built without clang-19";
  test::Random random(111);
  const auto good = gfx942_code()[3].bytes;
  EXPECT_GT(read_resources(good).size(), 5U);
  for (int i = 0; i < test::rounds(300, 5000); ++i) {
    const std::size_t n =
        random.chance(0.5) ? good.size() : static_cast<std::size_t>(random.below(static_cast<int>(good.size())));
    const std::unique_ptr<std::uint8_t[]> bytes(new std::uint8_t[n]);
    std::memcpy(bytes.get(), good.data(), n);
    for (int k = 0; k < 8 && n > 0; ++k)
      bytes[static_cast<std::size_t>(
          random.below(static_cast<int>(random.chance(0.7) ? std::min<std::size_t>(n, 2000) : n)))] =
          static_cast<std::uint8_t>(random.below(256));
    (void)read_resources({bytes.get(), n});
  }
}

TEST(CodeObjects, OccupancyFollowsFromRegistersAndLds) {
  KernelResources r;
  r.vgprs = 128;
  EXPECT_EQ(r.waves_per_simd(), 4);
  r.vgprs = 129;
  EXPECT_EQ(r.waves_per_simd(), 3);
  r.vgprs = 24;
  EXPECT_EQ(r.waves_per_simd(), 8);
  r.lds_bytes = 20000;
  EXPECT_EQ(r.waves_per_simd(), 3) << "three blocks fit a compute unit's LDS";
}

}  // namespace
}  // namespace faultline::kernels::bench
