// Packets between the processes of a live cluster: each kind reads back, and no bytes do harm.
#include "backend/driver/wire.h"

#include <gtest/gtest.h>

#include "tests/unit/core/record/random_values.h"

namespace faultline::live {
namespace {

using record::testing::RandomFill;
constexpr std::uint64_t kSeed = 20'261'123;

template <class Variant, class Decode>
void expect_round_trips(Decode decode) {
  ::testing::Test::RecordProperty("seed", std::to_string(kSeed));
  for (std::size_t index = 0; index < std::variant_size_v<Variant>; ++index) {
    for (std::uint64_t k = 0; k < 100; ++k) {
      Random random(kSeed, "test/wire/round trip", index, k);
      Variant value;
      RandomFill(random).any(value, index);
      const std::string bytes = encode(value);
      const auto read = decode(bytes);
      ASSERT_TRUE(read.has_value()) << "kind " << index << " case " << k;
      ASSERT_EQ(read->index(), index);
      ASSERT_EQ(encode(*read), bytes) << "kind " << index << " case " << k << " seed " << kSeed;
      ASSERT_FALSE(decode(bytes + '\0')) << "a longer packet is taken";
      if (!bytes.empty()) {
        // Cut anywhere it is not taken: no field is left out.
        ASSERT_FALSE(decode(std::string_view(bytes).substr(0, random.below(bytes.size())))) << "a cut packet is taken";
      }
    }
  }
}

TEST(Wire, EveryKindOfPacketReadsBackAndNoCutOneDoes) {
  expect_round_trips<Packet>([](std::string_view b) { return decode_packet(b); });
}
TEST(Wire, EveryOrderToAWorkerReadsBack) {
  expect_round_trips<WorkerOrder>([](std::string_view b) { return decode_order(b); });
}
TEST(Wire, EveryReportOfAWorkerReadsBack) {
  expect_round_trips<WorkerReport>([](std::string_view b) { return decode_report(b); });
}

TEST(Wire, AnyBytesAreAPacketOrAnError) {
  std::uint64_t taken = 0;
  for (std::uint64_t k = 0; k < 50'000; ++k) {
    Random random(kSeed, "test/wire/fuzz", k);
    std::string bytes;
    if (random.chance(0.5)) {  // a real one with some bytes changed
      Packet packet;
      RandomFill(random).any(packet, random.below(std::variant_size_v<Packet>));
      bytes = encode(packet);
      for (int changes = 0; changes < 3 && !bytes.empty(); ++changes)
        bytes[random.below(bytes.size())] = static_cast<char>(random.bits());
    } else {
      bytes.resize(random.below(80));
      for (char& c : bytes) c = static_cast<char>(random.bits());
    }
    if (const auto packet = decode_packet(bytes)) {
      ++taken;
      ASSERT_LT(packet->index(), std::variant_size_v<Packet>);
    }
  }
  EXPECT_GT(taken, 1'000U);
}

}  // namespace
}  // namespace faultline::live
