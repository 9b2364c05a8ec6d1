// Planning: the properties that every plan has, on random batches, and the examples that the documents promise.
#include "backend/transport/plan.h"

#include <gtest/gtest.h>

#include <map>

#include "core/base/random.h"

namespace faultline::transport {
namespace {

constexpr RegionId kA{1}, kB{2}, kX{101}, kY{102};

WriteSpan span(RegionId local, std::int64_t from, RegionId remote, std::int64_t to, std::int64_t length) {
  return {local, {from}, remote, {to}, {length}};
}

using ByteMap = std::map<std::pair<std::uint32_t, std::int64_t>, std::pair<std::uint32_t, std::int64_t>>;

/// Which source byte ends up at which byte of the peer.
ByteMap bytes_of(std::span<const WriteSpan> spans) {
  ByteMap map;
  for (const WriteSpan& s : spans) {
    for (std::int64_t i = 0; i < s.length.v; ++i)
      map[{s.remote.v, s.remote_offset.v + i}] = {s.local.v, s.local_offset.v + i};
  }
  return map;
}
ByteMap bytes_of(const Plan& plan) {
  ByteMap map;
  for (const Request& request : plan.requests) {
    std::int64_t at = request.remote_offset;
    for (std::uint32_t k = 0; k < request.sge_count; ++k) {
      const Sge& sge = plan.sges[request.first_sge + k];
      for (std::int64_t i = 0; i < sge.length; ++i) map[{request.remote.v, at + i}] = {sge.local.v, sge.offset + i};
      at += sge.length;
    }
    EXPECT_EQ(at, request.remote_offset + request.length);
  }
  return map;
}

TEST(Plan, AContiguousLayerInThousandByteFragmentsNeedsOneRequest) {
  std::vector<WriteSpan> fragments;
  for (std::int64_t i = 0; i < 500; ++i) fragments.push_back(span(kA, i * 1000, kX, i * 1000, 1000));
  const Plan plan = plan_batch(fragments, {});
  ASSERT_EQ(plan.requests.size(), 1U);
  EXPECT_EQ(plan.requests[0].sge_count, 1U);
  EXPECT_EQ(plan.requests[0].length, 500'000);
}

TEST(Plan, FragmentsInAnyOrderMergeTheSame) {
  std::vector<WriteSpan> fragments;
  for (std::int64_t i = 0; i < 100; ++i)
    fragments.push_back(span(kA, (i * 37 % 100) * 64, kX, (i * 37 % 100) * 64, 64));
  EXPECT_EQ(plan_batch(fragments, {}).requests.size(), 1U);
}

TEST(Plan, SourcesScatteredAndTargetContiguousGatherUpToTheSgeLimit) {
  std::vector<WriteSpan> fragments;
  for (std::int64_t i = 0; i < 64; ++i) fragments.push_back(span(kA, i * 5000, kX, i * 1000, 1000));
  const Plan plan = plan_batch(fragments, {.sge_max = 16});
  ASSERT_EQ(plan.requests.size(), 4U);
  for (const Request& request : plan.requests) EXPECT_EQ(request.sge_count, 16U);
}

TEST(Plan, ASpanThatTouchesOnOneSideOnlyIsNotMerged) {
  EXPECT_EQ(merge_spans(std::vector{span(kA, 0, kX, 0, 10), span(kA, 10, kX, 20, 10)}).size(), 2U);
  EXPECT_EQ(merge_spans(std::vector{span(kA, 0, kX, 0, 10), span(kA, 20, kX, 10, 10)}).size(), 2U);
  EXPECT_EQ(merge_spans(std::vector{span(kA, 0, kX, 0, 10), span(kB, 10, kX, 10, 10)}).size(), 2U);
  EXPECT_EQ(merge_spans(std::vector{span(kA, 0, kX, 0, 10), span(kA, 10, kY, 10, 10)}).size(), 2U);
}

TEST(Plan, OverlappingTargetsKeepTheirOrder) {
  const std::vector<WriteSpan> spans{span(kA, 0, kX, 50, 100), span(kA, 500, kX, 0, 100)};
  const auto merged = merge_spans(spans);
  ASSERT_EQ(merged.size(), 2U);
  EXPECT_EQ(merged[0].remote_offset.v, 50);
}

TEST(Plan, NothingToMoveIsNoRequest) {
  EXPECT_TRUE(plan_batch({}, {}).requests.empty());
  EXPECT_TRUE(plan_batch(std::vector{span(kA, 5, kX, 5, 0)}, {}).requests.empty());
}

TEST(Plan, AShortRestStaysWithTheChunkBeforeIt) {
  const Plan plan = plan_batch(std::vector{span(kA, 0, kX, 0, 1000 + 200)}, {.chunk_bytes = 1000});
  ASSERT_EQ(plan.requests.size(), 1U);
  EXPECT_EQ(plan_batch(std::vector{span(kA, 0, kX, 0, 1000 + 250)}, {.chunk_bytes = 1000}).requests.size(), 2U);
}

TEST(Plan, SmallBatchesStayOnOneQueueAndLargeOnesAreSharedEvenly) {
  const std::vector<WriteSpan> large{span(kA, 0, kX, 0, 64 << 20)};
  const Plan plan = plan_batch(large, {.chunk_bytes = 1 << 20, .queues = 4, .stripe_min_bytes = 1 << 18});
  std::map<std::uint32_t, std::int64_t> share;
  for (const Request& request : plan.requests) share[request.queue] += request.length;
  ASSERT_EQ(share.size(), 4U);
  for (const auto& [queue, bytes] : share) EXPECT_EQ(bytes, 16 << 20);
  for (const Request& request : plan_batch(std::vector{span(kA, 0, kX, 0, 1000)}, {.queues = 4}).requests)
    EXPECT_EQ(request.queue, 0U);
}

TEST(Plan, RandomBatchesMoveExactlyTheirBytesWithinAllLimits) {
  const std::uint64_t seed = 20'240;
  std::printf("seed=%llu\n", static_cast<unsigned long long>(seed));
  for (std::uint64_t round = 0; round < 400; ++round) {
    Random r(seed, "test/plan", round);
    // Targets that do not overlap: pieces of a walk over two regions, some adjacent, shuffled.
    std::vector<WriteSpan> spans;
    std::int64_t to = 0;
    std::int64_t from = 0;
    const std::size_t count = r.below(60);
    for (std::size_t i = 0; i < count; ++i) {
      const auto length = static_cast<std::int64_t>(r.below(r.chance(0.1) ? 4000 : 90));
      if (r.chance(0.4)) to += static_cast<std::int64_t>(r.below(30));
      if (r.chance(0.4)) from = static_cast<std::int64_t>(r.below(100'000));
      spans.push_back(span(r.chance(0.1) ? kB : kA, from, r.chance(0.5) && i > count / 2 ? kY : kX, to, length));
      to += length;
      from += length;
    }
    for (std::size_t i = spans.size(); i > 1; --i) std::swap(spans[i - 1], spans[r.below(i)]);
    const PlanLimits limits{.sge_max = static_cast<std::uint32_t>(1 + r.below(8)),
                            .chunk_bytes = static_cast<std::int64_t>(1 + r.below(2000)),
                            .queues = static_cast<std::uint32_t>(1 + r.below(5)),
                            .stripe_min_bytes = static_cast<std::int64_t>(r.below(3000))};
    const Plan plan = plan_batch(spans, limits);
    EXPECT_EQ(bytes_of(plan), bytes_of(spans)) << "seed " << seed << " round " << round;
    std::int64_t longest = 0;
    std::int64_t total = 0;
    std::vector<std::int64_t> share(limits.queues, 0);
    std::uint32_t last_queue = 0;
    for (const Request& request : plan.requests) {
      EXPECT_GT(request.length, 0);
      EXPECT_LE(request.sge_count, std::max(limits.sge_max, 1U)) << "round " << round;
      EXPECT_LE(request.length, limits.chunk_bytes + (limits.chunk_bytes - 1) / 4);
      EXPECT_GE(request.queue, last_queue) << "requests are not in order of queue";
      last_queue = request.queue;
      ASSERT_LT(request.queue, limits.queues);
      share[request.queue] += request.length;
      longest = std::max(longest, request.length);
      total += request.length;
    }
    EXPECT_EQ(total, plan.bytes);
    if (plan.bytes >= limits.stripe_min_bytes && limits.queues > 1) {
      const auto [low, high] = std::minmax_element(share.begin(), share.end());
      EXPECT_LE(*high - *low, 2 * longest) << "seed " << seed << " round " << round;
    }
  }
}

}  // namespace
}  // namespace faultline::transport
