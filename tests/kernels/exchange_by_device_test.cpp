// The EP exchange in its GPU-initiated mode: the emulator runs the device code that writes work requests and rings, and
// a NIC of software executes what it finds in the queues: nothing but the bytes of the descriptors tells it what to do.
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "backend/ep/device_poster.h"
#include "backend/ep/exchange.h"
#include "backend/ep/reference.h"
#include "core/base/random.h"
#include "kernels/emulator/emulator.h"

#define FAULTLINE_TILE_EMULATOR 1
#include "kernels/tile/tile.h"

#include "kernels/ops/rdma_write.h"
#include "support.h"

namespace faultline::ep {
namespace {

constexpr RegionId kWindow{1};
constexpr std::uint32_t kSlots = 64;

/// A send queue and the NIC's place in it.
struct Queue {
  std::vector<std::uint32_t> ring = std::vector<std::uint32_t>(kSlots * 16, 0xdeadbeef);
  std::uint32_t record = 0, posted = 0xffe0;  // the 16-bit index wraps on the way
  std::uint64_t doorbell = 0;
  std::uint16_t taken = 0xffe0;
};

/// Ranks with a queue pair to each other, and the NIC between them.
class Fabric {
 public:
  explicit Fabric(ExchangeSettings settings) : s_(settings) {
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      windows_.emplace_back(Exchange::window_bytes(s_));
      queues_.emplace_back(s_.ranks);
    }
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      posters_.push_back(std::make_unique<DevicePoster>([this, r](const kernels::RdmaWriteArgs& args) {
        kernels::emulator::launch(1, 1, 1, ++launches_,
                                  [&] { kernels::emulated::rdma_write(kernels::emulated::Block{}, args); });
        rung_.push_back({r, args.queue.qp_number});
      }));
      DevicePoster& poster = *posters_.back();
      poster.add_memory(kWindow, memory_of(r, kLocalKeys));
      std::vector<EndpointId> peers(s_.ranks);
      std::vector<RegionId> remote(s_.ranks);
      for (std::uint32_t q = 0; q < s_.ranks; ++q) {
        if (q == r) continue;
        peers[q] = EndpointId{q};
        remote[q] = RegionId{100 + q};
        Queue& queue = queues_[r][q];
        poster.add_peer(peers[q], {queue.ring.data(), &queue.record, &queue.doorbell, &queue.posted, kSlots, q});
        poster.add_memory(remote[q], memory_of(q, kRemoteKeys));
      }
      ExchangeSettings mine = s_;
      mine.rank = r;
      exchanges_.push_back(std::make_unique<Exchange>(mine, poster, windows_[r], kWindow, peers, remote,
                                                      [this] { return OpId{++ops_}; }));
    }
  }

  /// One step of all living ranks. Returns how many tokens were flagged; every other one equals the reference.
  std::size_t step(std::uint64_t number) {
    std::vector<std::vector<float>> values(s_.ranks), weights(s_.ranks);
    std::vector<std::vector<std::uint32_t>> experts(s_.ranks);
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      Random random(5, "test/ep-device", r, number);
      for (std::uint64_t t = random.below(s_.tokens_max + 1); t > 0; --t) {
        const auto first = static_cast<std::uint32_t>(random.below(s_.experts));
        for (std::uint32_t k = 0; k < s_.topk; ++k) {
          experts[r].push_back((first + k * 3) % s_.experts);
          weights[r].push_back(static_cast<float>(random.uniform()));
        }
        for (std::uint32_t h = 0; h < s_.hidden; ++h) values[r].push_back(static_cast<float>(random.normal()));
      }
    }
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      if (exchanges_[r]) exchanges_[r]->dispatch({0}, values[r], experts[r], weights[r]);
    }
    run();
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      if (!exchanges_[r]) continue;
      EXPECT_TRUE(exchanges_[r]->dispatched()) << "rank " << r;
      std::vector<float> results;
      for (const Arrival& arrival : exchanges_[r]->arrivals()) {
        const auto part = compute(arrival.experts, arrival.value);
        results.insert(results.end(), part.begin(), part.end());
      }
      exchanges_[r]->combine({0}, results);
    }
    run();
    std::size_t flagged = 0;
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      if (!exchanges_[r]) continue;
      EXPECT_TRUE(exchanges_[r]->combined()) << "rank " << r;
      const Combined& result = exchanges_[r]->result();
      const auto expected =
          reference_moe(s_.ranks, s_.experts, s_.topk, s_.hidden, values[r], experts[r], weights[r], compute);
      for (std::size_t t = 0; t < result.whole.size(); ++t) {
        if (!result.whole[t]) {
          ++flagged;
          continue;
        }
        for (std::size_t h = t * s_.hidden; h < (t + 1) * s_.hidden; ++h) EXPECT_EQ(result.value.at(h), expected.at(h));
      }
    }
    return flagged;
  }

  /// Its GPU and queue pairs are gone: those of the others to it fail.
  void kill(std::uint32_t rank) {
    exchanges_[rank].reset();
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      if (!exchanges_[r]) continue;
      for (const auto& event : posters_[r]->failed(EndpointId{rank}, Cause::link_down))
        exchanges_[r]->handle(event, {0});
      exchanges_[r]->handle(EndpointDown{EndpointId{rank}, Cause::link_down}, {0});
    }
  }
  std::size_t executed() const { return executed_; }

 private:
  static constexpr std::uint32_t kLocalKeys = 0x100, kRemoteKeys = 0x200;

  static std::vector<float> compute(std::span<const std::pair<std::uint32_t, float>> experts,
                                    std::span<const float> value) {
    std::vector<float> out(value.size(), 0.0F);
    for (const auto& [expert, weight] : experts) {
      for (std::size_t h = 0; h < value.size(); ++h)
        out[h] += weight * value[h] * (1.0F + 0.25F * static_cast<float>(expert));
    }
    return out;
  }
  DevicePoster::Memory memory_of(std::uint32_t rank, std::uint32_t keys) const {
    return {reinterpret_cast<std::uint64_t>(windows_[rank].data()), keys + rank, windows_[rank].size()};
  }
  std::byte* checked(std::uint64_t address, std::uint32_t length, std::uint32_t rank) {
    const std::uint64_t base = reinterpret_cast<std::uint64_t>(windows_[rank].data());
    EXPECT_TRUE(address >= base && address + length <= base + windows_[rank].size()) << "outside rank " << rank;
    return windows_[rank].data() + (address - base);
  }

  void run() {
    while (!rung_.empty()) {
      const auto [from, to] = rung_.front();
      rung_.erase(rung_.begin());
      execute(from, to);
    }
  }
  /// What a NIC does at a doorbell: takes descriptors up to the doorbell record.
  void execute(std::uint32_t from, std::uint32_t to) {
    Queue& queue = queues_[from][to];
    const auto end = static_cast<std::uint16_t>(__builtin_bswap32(queue.record));
    while (queue.taken != end) {
      const std::uint16_t index = queue.taken++;
      std::uint32_t word[16];
      for (int i = 0; i < 16; ++i)
        word[i] = queue.ring[static_cast<std::size_t>(index % kSlots) * 16 + static_cast<std::size_t>(i)];
      const auto field = [&](int i) { return __builtin_bswap32(word[i]); };
      const std::uint32_t opcode = field(0) & 0xff, segments = field(1) & 0x3f;
      ASSERT_EQ(field(0) >> 8 & 0xffff, index);
      ASSERT_EQ(field(1) >> 8, to) << "queue pair";
      ASSERT_TRUE(opcode == 0x08 || opcode == 0x09) << opcode;
      ++executed_;
      if (segments == 3) {
        const std::uint32_t length = field(8);
        ASSERT_EQ(field(6), kRemoteKeys + to);
        ASSERT_EQ(field(9), kLocalKeys + from);
        const auto joined = [&](int i) { return static_cast<std::uint64_t>(field(i)) << 32 | field(i + 1); };
        std::memcpy(checked(joined(4), length, to), checked(joined(10), length, from), length);
      } else {
        ASSERT_EQ(segments, 2U);
      }
      if (opcode == 0x09 && exchanges_[to]) exchanges_[to]->handle(Notified{EndpointId{from}, field(3)}, {0});
      if ((field(2) & 2U << 2) != 0 && exchanges_[from]) {
        for (const auto& event : posters_[from]->completed(EndpointId{to}, index)) exchanges_[from]->handle(event, {0});
      }
    }
  }

  ExchangeSettings s_;
  std::vector<std::vector<std::byte>> windows_;
  std::vector<std::vector<Queue>> queues_;  // of a rank to each other one
  std::vector<std::unique_ptr<DevicePoster>> posters_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> rung_;
  std::uint64_t launches_ = 0, ops_ = 0;
  std::size_t executed_ = 0;
};

ExchangeSettings settings_of(Variant variant) {
  return {.ranks = 8,
          .ranks_per_node = 4,
          .rank = 0,
          .experts = 32,
          .topk = 4,
          .hidden = 16,
          .tokens_max = 12,
          .variant = variant,
          .wait_max = Duration{100'000'000}};
}

TEST(ExchangeByDevice, EqualsTheSingleProcessLayerBitForBit) {
  for (const Variant variant : {Variant::low_latency, Variant::high_throughput}) {
    Fabric fabric(settings_of(variant));
    for (std::uint64_t step = 0; step < 20; ++step) EXPECT_EQ(fabric.step(step), 0U) << "step " << step;
    EXPECT_GT(fabric.executed(), 500U);
  }
}

TEST(ExchangeByDevice, AFailedQueuePairLeavesFlaggedTokens) {
  for (const Variant variant : {Variant::low_latency, Variant::high_throughput}) {
    Fabric fabric(settings_of(variant));
    EXPECT_EQ(fabric.step(0), 0U);
    fabric.kill(5);
    std::size_t flagged = 0;
    for (std::uint64_t step = 1; step < 6; ++step) flagged += fabric.step(step);
    EXPECT_GT(flagged, 0U);
  }
}

TEST(DevicePoster, AFullQueueAndForeignMemoryAreRefused) {
  std::vector<std::uint32_t> launched;
  DevicePoster poster([&](const kernels::RdmaWriteArgs& args) { launched.push_back(args.count); });
  Queue queue;
  constexpr EndpointId kPeer{3};
  poster.add_peer(kPeer, {queue.ring.data(), &queue.record, &queue.doorbell, &queue.posted, 4, 3});
  poster.add_memory(kWindow, {0x1000, 1, 100});
  poster.add_memory(RegionId{2}, {0x2000, 2, 100});
  const WriteSpan good{kWindow, {0}, RegionId{2}, {50}, {50}};
  EXPECT_EQ(poster.post({OpId{1}, EndpointId{9}, {good}, {}}).cause(), Cause::peer_lost);
  EXPECT_EQ(poster.post({OpId{1}, kPeer, {{RegionId{7}, {0}, RegionId{2}, {0}, {1}}}, {}}).cause(), Cause::protection);
  EXPECT_EQ(poster.post({OpId{1}, kPeer, {{kWindow, {0}, RegionId{2}, {51}, {50}}}, {}}).cause(), Cause::protection);
  EXPECT_EQ(poster.post({OpId{1}, kPeer, {{kWindow, {-1}, RegionId{2}, {0}, {50}}}, {}}).cause(), Cause::protection);
  EXPECT_TRUE(poster.post({OpId{1}, kPeer, {good, good, good}, {}}));
  EXPECT_EQ(poster.post({OpId{2}, kPeer, {good, good}, {}}).cause(), Cause::overload);
  EXPECT_TRUE(poster.post({OpId{2}, kPeer, {}, 5}));
  EXPECT_EQ(launched, (std::vector<std::uint32_t>{3, 1}));
  EXPECT_TRUE(poster.completed(kPeer, 1).empty()) << "the second of three";
  EXPECT_EQ(poster.completed(kPeer, 3).size(), 2U);
  EXPECT_TRUE(poster.post({OpId{3}, kPeer, {good, good, good, good}, {}}));
  EXPECT_EQ(poster.failed(kPeer, Cause::link_down).size(), 1U);
  EXPECT_EQ(poster.post({OpId{4}, kPeer, {good}, {}}).cause(), Cause::peer_lost);
}

}  // namespace
}  // namespace faultline::ep
