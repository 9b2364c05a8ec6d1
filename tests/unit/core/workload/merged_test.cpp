#include "core/workload/merged.h"

#include <gtest/gtest.h>

namespace faultline::workload {
namespace {

/// Gives out what it was made of; its prefix blocks live until its next call only.
class Listed final : public ArrivalSource {
 public:
  explicit Listed(std::vector<Arrival> all) : all_(std::move(all)) {}
  bool next(Arrival& arrival) override {
    if (at_ == all_.size()) return false;
    arrival = all_[at_++];
    blocks_.assign(4, static_cast<std::uint32_t>(arrival.at.ns));
    arrival.prefix_blocks = blocks_;
    return true;
  }

 private:
  std::vector<Arrival> all_;
  std::vector<std::uint32_t> blocks_;
  std::size_t at_ = 0;
};

Arrival arrival(std::int64_t at, std::uint8_t slo_class = 0, std::uint32_t session = kNoSession) {
  Arrival a;
  a.at = Instant{at};
  a.slo_class = slo_class;
  a.session = session;
  return a;
}

std::unique_ptr<ArrivalSource> two(std::vector<Arrival> a, std::vector<Arrival> b, std::uint8_t first_class) {
  std::vector<MergedPart> parts;
  parts.push_back({std::make_unique<Listed>(std::move(a)), 0});
  parts.push_back({std::make_unique<Listed>(std::move(b)), first_class});
  return merge(std::move(parts));
}

TEST(MergedLoad, ComesInTheOrderOfTimeWithTheEarlierPartFirst) {
  const auto source = two({arrival(1), arrival(5), arrival(5)}, {arrival(2), arrival(5), arrival(9)}, 3);
  std::vector<std::pair<std::int64_t, int>> seen;
  for (Arrival a; source->next(a);) seen.emplace_back(a.at.ns, a.slo_class);
  const std::vector<std::pair<std::int64_t, int>> expected{{1, 0}, {2, 3}, {5, 0}, {5, 0}, {5, 3}, {9, 3}};
  EXPECT_EQ(seen, expected);
  Arrival after = arrival(77);
  EXPECT_FALSE(source->next(after));
  EXPECT_FALSE(source->next(after));
  EXPECT_EQ(after.at.ns, 77) << "untouched at the end";
}

TEST(MergedLoad, NumbersClassesOnAndKeepsSessionsApart) {
  const auto source = two({arrival(1, 1, 0)}, {arrival(2, 1, 0)}, 2);
  Arrival a, b;
  ASSERT_TRUE(source->next(a));
  ASSERT_TRUE(source->next(b));
  EXPECT_EQ(a.slo_class, 1);
  EXPECT_EQ(b.slo_class, 3);
  EXPECT_NE(a.session, b.session);
}

TEST(MergedLoad, LeavesThePrefixOfTheLastArrivalWholeUntilTheNextCall) {
  const auto source = two({arrival(1), arrival(2)}, {arrival(3)}, 1);
  for (Arrival a; source->next(a);) {
    ASSERT_EQ(a.prefix_blocks.size(), 4U);
    EXPECT_EQ(a.prefix_blocks[0], static_cast<std::uint32_t>(a.at.ns));
  }
}

}  // namespace
}  // namespace faultline::workload
