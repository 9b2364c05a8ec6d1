#include "core/workload/prefixes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

namespace faultline::workload {
namespace {

struct Plain final : ArrivalSource {
  std::int64_t left = 20'000;
  bool next(Arrival& a) override {
    if (left-- <= 0) return false;
    a = {.at = Instant{20'000 - left}, .prompt = Tokens{100}, .output = Tokens{7}};
    return true;
  }
};
struct Seen {
  std::int64_t prompt;
  std::vector<std::uint32_t> blocks;
};
std::vector<Seen> play(const PrefixesSpec& spec, std::uint64_t seed = 1) {
  const auto source = with_prefixes(std::make_unique<Plain>(), spec, seed);
  std::vector<Seen> seen;
  Arrival a;
  while (source->next(a)) {
    EXPECT_EQ(a.prefix_block_tokens, spec.block_tokens);
    EXPECT_EQ(a.output, Tokens{7});
    seen.push_back({a.prompt.v, {a.prefix_blocks.begin(), a.prefix_blocks.end()}});
  }
  return seen;
}

TEST(Prefixes, APromptIsItsPrefixAndThenItsOwn) {
  const auto seen = play({.count = 3, .tokens = Tokens{210}, .zipf = 0, .share = 1, .block_tokens = 64});
  ASSERT_EQ(seen.size(), 20'000U);
  std::set<std::uint32_t> own;
  std::set<std::vector<std::uint32_t>> prefixes;
  for (const Seen& s : seen) {
    EXPECT_EQ(s.prompt, 310);
    ASSERT_EQ(s.blocks.size(), 5U);  // 310 tokens; 3 whole blocks of the prefix, the rest holds tokens of its own
    prefixes.insert({s.blocks.begin(), s.blocks.begin() + 3});
    for (std::size_t k = 3; k < 5; ++k) EXPECT_TRUE(own.insert(s.blocks[k]).second) << "nobody else has that block";
  }
  EXPECT_EQ(prefixes.size(), 3U);
}

TEST(Prefixes, AreDrawnByZipfsLawAndByTheirShare) {
  const auto seen = play({.count = 4, .tokens = Tokens{64}, .zipf = 1, .share = 0.5, .block_tokens = 64});
  std::map<std::uint32_t, double> count;
  for (const Seen& s : seen) {
    if (s.prompt == 164) ++count[s.blocks[0]];
    else EXPECT_EQ(s.prompt, 100);
  }
  ASSERT_EQ(count.size(), 4U);
  const double sum = 1 + 1.0 / 2 + 1.0 / 3 + 1.0 / 4;
  for (std::uint32_t r = 0; r < 4; ++r) {
    const double p = 0.5 / (r + 1) / sum;  // five standard deviations of a binomial
    EXPECT_NEAR(count[r], 20'000 * p, 5 * std::sqrt(20'000 * p * (1 - p))) << r;
  }
}

TEST(Prefixes, DependOnTheSeedAlone) {
  const PrefixesSpec spec{.count = 50};
  const auto a = play(spec), b = play(spec), c = play(spec, 2);
  std::size_t different = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].blocks, b[i].blocks);
    different += a[i].blocks[0] != c[i].blocks[0];
  }
  EXPECT_GT(different, a.size() / 2);
}

}  // namespace
}  // namespace faultline::workload
