// The emulator itself: what it must refuse; and that planted faults in kernels are noticed by the comparisons of this
// suite.
#include "kernels/emulator/emulator.h"

#include <cstring>

#define FAULTLINE_TILE_EMULATOR 1
#include "kernels/tile/tile.h"

#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"
#include "support.h"

namespace faultline::kernels {
namespace {

namespace emu = emulator;
using emulated::Block;

std::string fault_of(const std::function<void()>& body) {
  try {
    emu::launch(1, 1, 1, test::run_seed(), body);
  } catch (const emu::Fault& f) {
    return f.what();
  }
  return "";
}

TEST(Emulator, RunsEveryThreadOfEveryBlockOnce) {
  std::vector<int> count(2 * 3 * 2 * 256);
  emu::launch(2, 3, 2, 1, [&] {
    const Block b;
    ++count[static_cast<std::size_t>(((b.z() * 3 + b.y()) * 2 + b.x()) * 256 + emu::thread_index())];
  });
  for (const int c : count) ASSERT_EQ(c, 1);
}

TEST(Emulator, OrderOfLanesChangesWithTheSeedAndAtEveryBarrier) {
  auto order = [](std::uint64_t seed) {
    std::vector<int> out;
    emu::launch(1, 1, 1, seed, [&] {
      out.push_back(emu::thread_index());
      emulated::sync();
      out.push_back(emu::thread_index());
    });
    return out;
  };
  const auto a = order(1), b = order(2);
  EXPECT_NE(a, b);
  EXPECT_EQ(a, order(1)) << "a seed gives one order";
  EXPECT_NE(std::vector<int>(a.begin(), a.begin() + 256), std::vector<int>(a.begin() + 256, a.end()));
}

TEST(Emulator, WavesWaitingAtDifferentBarriersAreReported) {
  const std::string why = fault_of([] {
    const Block b;
    if (emu::thread_index() < 64) {
      b.barrier();
      b.barrier();
    } else {
      b.barrier();
    }
  });
  EXPECT_NE(why.find("part"), std::string::npos) << why;
}

TEST(Emulator, ALaneThatSkipsAWaveOperationIsReported) {
  const std::string why = fault_of([] {
    if (emulated::lane() != 17) emulated::wave_sync();
  });
  EXPECT_NE(why.find("lane"), std::string::npos) << why;
}

TEST(Emulator, LdsStartsAsNanAndItsBoundsAreChecked) {
  int not_nan = 0;
  EXPECT_EQ(fault_of([&] {
              const auto a = Block::shared<float, 100, 0>();
              if (emu::thread_index() < 100 && !std::isnan(a[emu::thread_index()])) ++not_nan;
            }),
            "");
  EXPECT_EQ(not_nan, 0);
  for (const int index : {100, -1}) {
    const std::string why = fault_of([&] {
      const auto a = Block::shared<float, 100, 0>();
      if (emu::thread_index() == 5) a[index] = 1;
    });
    EXPECT_NE(why.find("LDS index " + std::to_string(index)), std::string::npos) << why;
  }
}

TEST(Emulator, TooMuchLdsIsReported) {
  const std::string why = fault_of([] { Block::shared<float, 20000, 0>()[0] = 1; });
  EXPECT_NE(why.find("80000"), std::string::npos) << why;
}

TEST(EmulatorDeathTest, ReadingPastABufferStops) {
  EmulatedDevice device(1);
  Buffer b(device, 64);
  EXPECT_DEATH(
      {
        volatile std::uint8_t v = b.data()[64];
        (void)v;
      },
      "");
}

// --- planted faults ---

class PlantedFault : public testing::Test {
 protected:
  void TearDown() override { emu::planted() = {}; }

  // Largest difference between the emulator and the CPU on a product, relative to the largest value; infinity for NaN
  // or a Fault.
  static double gemm_difference() {
    test::Random random(80);
    const int m = 33, n = 128, k = 256;
    const auto a = test::random_codes(random, m * k), w = test::random_codes(random, n * k);
    std::vector<float> results[2];
    auto cpu = make_cpu_device();
    EmulatedDevice emulated(test::run_seed());
    for (Device* device : {cpu.get(), static_cast<Device*>(&emulated)}) {
      auto ba = Buffer::of(*device, a), bw = Buffer::of(*device, shuffle_weights(w, n, k));
      auto as = Buffer::of(*device, std::vector<float>(m, 0.01F)),
           ws = Buffer::of(*device, std::vector<float>(n, 0.01F));
      Buffer out(*device, m * n * 4);
      GemmArgs args{};
      args.a = ba.data(), args.w = bw.data(), args.a_scale = as.data<float>(), args.w_scale = ws.data<float>(),
      args.out = out.data();
      args.m = m, args.n = n, args.k_bytes = k, args.lda = k, args.ldo = n, args.out_is_float = 1;
      if (!gemm_fp8(*device, args)) return INFINITY;
      results[device == &emulated ? 1 : 0] = out.read<float>();
    }
    return difference(results[0], results[1]);
  }
  template <class V>
  static double difference(const V& a, const V& b) {
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (std::isnan(a[i]) || std::isnan(b[i])) return INFINITY;
      worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
      largest = std::max(largest, std::fabs(static_cast<double>(a[i])));
    }
    return worst / largest;
  }

  // The same for MLA decode.
  static double mla_difference(std::uint64_t schedule = 0) {
    test::Random random(81);
    const int heads = 16, tokens = 150;
    const auto q = test::random_codes(random, heads * 576), cache = test::random_codes(random, 192 * 576);
    const std::vector<int> pages{2, 0, 1}, zero{0}, one{1}, length{tokens};
    std::vector<float> results[2];
    auto cpu = make_cpu_device();
    EmulatedDevice emulated(test::run_seed() + schedule);
    for (Device* device : {cpu.get(), static_cast<Device*>(&emulated)}) {
      auto bq = Buffer::of(*device, q), bc = Buffer::of(*device, cache), bp = Buffer::of(*device, pages),
           b0 = Buffer::of(*device, zero), b1 = Buffer::of(*device, one), bl = Buffer::of(*device, length);
      Buffer out(*device, heads * 512 * 2), status(*device, 16);
      AttentionArgs a{};
      a.q = bq.data(), a.k = a.v = bc.data(), a.pages = bp.data<int>(), a.q_start = b0.data<int>(),
      a.q_len = b1.data<int>(), a.kv_len = bl.data<int>();
      a.out = out.data<std::uint16_t>(), a.status = status.data<std::uint32_t>();
      a.q_head = 576, a.q_token = 576 * heads, a.k_token = a.v_token = 576, a.k_page = a.v_page = 64 * 576;
      a.sequences = a.tokens = 1, a.pages_ld = a.page_count = 3, a.heads = heads, a.kv_heads = 1, a.splits = 1,
      a.causal = 1;
      a.score_scale = 0.001F * 0.072F * 1.44F, a.v_scale = 0.03F;
      if (!attention(*device, AttentionKind::mla_decode_fp8, a, 1)) return INFINITY;
      std::vector<float> values;
      for (const auto h : out.read<std::uint16_t>()) values.push_back(bf16_to_float(h));
      results[device == &emulated ? 1 : 0] = values;
    }
    return difference(results[0], results[1]);
  }

  // Quantisation of values of which the largest is over the target after rounding, straight through the tile layer's
  // encoder.
  static int nan_codes() {
    int count = 0;
    emu::launch(1, 1, 1, 1, [&] {
      const float v = 200.0F + static_cast<float>(emu::thread_index());
      if (emulated::to_fp8(v) == 0x80) ++count;
    });
    return count;
  }
};

// What a planted fault must exceed to count as noticed; without one there is no difference at all.
constexpr double kGemmAgreement = 1e-5;
constexpr double kMlaAgreement = 0.02;

TEST_F(PlantedFault, WithoutOneEmulatorAndCpuAgreeToTheBit) {
  EXPECT_EQ(gemm_difference(), 0);
  EXPECT_EQ(mla_difference(), 0);
  EXPECT_EQ(nan_codes(), 0);
}

TEST_F(PlantedFault, SwappedAccumulatorRowsAreCaught) {
  emu::planted().swapped_accumulator_rows = true;
  EXPECT_GT(gemm_difference(), 100 * kGemmAgreement);
  EXPECT_GT(mla_difference(), 2 * kMlaAgreement);
}

TEST_F(PlantedFault, EachMissingBarrierOfAGemmIsCaught) {
  // 33 rows: tiles of 64; K = 256 is two steps: a barrier after the first stage, one after each step. The last protects
  // the next use of the stage, of which there is none here.
  for (int n = 0; n < 2; ++n) {
    emu::planted().missing_barrier = n;
    EXPECT_GT(gemm_difference(), kGemmAgreement) << "barrier " << n;
  }
}

TEST_F(PlantedFault, MissingBarriersOfMlaDecodeAreCaught) {
  // 0 follows the staging of the query; then, for each tile: scratch is free (1), scores written (2), probabilities
  // written (3); each wave turns its own values. In the first tile nothing was turned before, so for 1 the second
  // tile's is left out (4): its scores then overwrite values that one wave may still read, which happens unless that
  // wave comes first: one schedule in four. Eight schedules miss it once in 65,536 seeds.
  for (const int n : {0, 2, 3, 4}) {
    emu::planted().missing_barrier = n;
    double worst = 0;
    for (std::uint64_t schedule = 0; schedule < 8 && worst <= kMlaAgreement; ++schedule)
      worst = std::max(worst, mla_difference(schedule));
    EXPECT_GT(worst, kMlaAgreement) << "barrier " << n;
  }
}

TEST_F(PlantedFault, MissingMeetingsOfAWaveInMlaDecodeAreCaught) {
  // For each tile: the softmax's (0), then for each half of the columns: values may be turned (1, 3), turned (2, 4).
  // Lanes have met in the products before 1 and 3, which only a compiler could move across.
  for (const int n : {2, 4}) {
    emu::planted().missing_wave_sync = n;
    EXPECT_GT(mla_difference(), kMlaAgreement) << "meeting " << n;
  }
}

TEST_F(PlantedFault, AShortTailIsCaught) {
  emu::planted().short_tail = true;
  EXPECT_GT(mla_difference(), kMlaAgreement);  // the last query chunk or the last row's state stays NaN
}

TEST_F(PlantedFault, AnUnclampedConversionIsCaught) {
  emu::planted().no_clamp = true;
  EXPECT_GT(nan_codes(), 0);
}

}  // namespace
}  // namespace faultline::kernels
