#include <algorithm>
#include <cstring>

#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"
#include "support.h"

namespace faultline::kernels {
namespace {

using reference::Matrix;

TEST(Router, ChoosesTheExpertsOfTheReferenceWithItsWeights) {
  test::Random random(40);
  struct Shape {
    int experts, groups, top_groups, top_k;
  };
  for (const Shape s : {Shape{256, 8, 4, 8}, Shape{16, 4, 2, 4}, Shape{64, 1, 1, 6}, Shape{8, 2, 1, 1}}) {
    const int m = 37;
    std::vector<float> logits(static_cast<std::size_t>(m) * s.experts), bias(static_cast<std::size_t>(s.experts));
    for (auto& x : logits) x = random.normal(2);
    for (auto& x : bias) x = random.normal(0.1F);
    test::SameBits same;
    for (const auto& device : test::all_devices(40)) {
      SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " " << device->name() << " experts "
                                      << s.experts);
      auto bl = Buffer::of(*device, logits), bb = Buffer::of(*device, bias);
      Buffer ids(*device, static_cast<std::size_t>(m) * s.top_k * 4),
          weights(*device, static_cast<std::size_t>(m) * s.top_k * 4);
      FAULTLINE_DONE(router(*device, {bl.data<float>(), bb.data<float>(), ids.data<int>(), weights.data<float>(), m,
                                      s.experts, s.groups, s.top_groups, s.top_k, 2.5F}));
      const auto got_ids = ids.read<int>();
      const auto got_weights = weights.read<float>();
      same.expect(*device, "ids", got_ids);
      same.expect(*device, "weights", got_weights);
      for (int t = 0; t < m; ++t) {
        const auto expected = reference::route(
            {logits.data() + static_cast<std::size_t>(t) * s.experts, static_cast<std::size_t>(s.experts)}, bias,
            s.groups, s.top_groups, s.top_k, 2.5);
        for (int k = 0; k < s.top_k; ++k) {
          const auto at = static_cast<std::size_t>(t * s.top_k + k);
          ASSERT_EQ(got_ids[at], expected.ids[static_cast<std::size_t>(k)]) << t << " " << k;
          // sigmoid of one exp2 (relative 1e-7) and a division
          ASSERT_NEAR(static_cast<double>(got_weights[at]), expected.weights[static_cast<std::size_t>(k)], 2e-6)
              << t << " " << k;
        }
      }
    }
  }
}

TEST(Router, NotANumberAndTiesHaveDefinedChoices) {
  std::vector<float> logits(32, 1.0F);
  for (int e = 16; e < 32; ++e) logits[static_cast<std::size_t>(e)] = NAN;
  logits[3] = NAN;
  for (const auto& device : test::all_devices(41)) {
    auto bl = Buffer::of(*device, logits);
    Buffer ids(*device, 32), weights(*device, 32);
    FAULTLINE_DONE(
        router(*device, {bl.data<float>(), nullptr, ids.data<int>(), weights.data<float>(), 2, 16, 1, 1, 4, 1.0F}));
    EXPECT_EQ(ids.read<int>(), (std::vector<int>{0, 1, 2, 4, 0, 1, 2, 3})) << device->name();
    const auto w = weights.read<float>();
    for (int k = 0; k < 4; ++k) {
      EXPECT_FLOAT_EQ(w[static_cast<std::size_t>(k)], 0.25F);
      EXPECT_EQ(w[static_cast<std::size_t>(4 + k)], 0.0F) << "a token of NaN weighs nothing";
    }
  }
}

TEST(Router, BadShapesAreRefused) {
  auto device = make_cpu_device();
  RouterArgs a{};
  a.m = 1, a.experts = 2000, a.groups = 1, a.top_k = 1;
  EXPECT_FALSE(static_cast<bool>(router(*device, a)));
  a.experts = 16, a.groups = 3;
  EXPECT_FALSE(static_cast<bool>(router(*device, a)));
  a.groups = 4, a.top_groups = 1, a.top_k = 5;
  EXPECT_FALSE(static_cast<bool>(router(*device, a))) << "five of four experts";
}

struct Moe {
  int m, hidden, inter, experts, shared, top_k;
  std::vector<std::uint8_t> x, w13, w2;
  std::vector<float> x_scale, w13_scale, w2_scale, weights;
  std::vector<int> ids;

  Moe(test::Random& random, int tokens, int h, int i, int e, int s, int k)
      : m(tokens), hidden(h), inter(i), experts(e), shared(s), top_k(k) {
    const int all = e + s;
    x = test::random_codes(random, static_cast<std::size_t>(m) * hidden);
    w13 = test::random_codes(random, static_cast<std::size_t>(all) * 2 * inter * hidden);
    w2 = test::random_codes(random, static_cast<std::size_t>(all) * hidden * inter);
    auto scales = [&](int n, float typical) {
      std::vector<float> out(static_cast<std::size_t>(n));
      for (auto& v : out) v = typical * random.uniform(0.5F, 2.0F);
      return out;
    };
    x_scale = scales(hidden / 128 * m, 1.0F / 30);
    w13_scale = scales(all * (2 * inter / 128) * (hidden / 128), 1.0F / 30 / std::sqrt(static_cast<float>(hidden)));
    w2_scale = scales(all * (hidden / 128) * (inter / 128), 1.0F / 30 / std::sqrt(static_cast<float>(inter)));
    for (int t = 0; t < m; ++t) {
      std::vector<int> order(static_cast<std::size_t>(experts));
      for (int n = 0; n < experts; ++n) order[static_cast<std::size_t>(n)] = n;
      for (int n = 0; n < top_k; ++n) {
        std::swap(order[static_cast<std::size_t>(n)], order[static_cast<std::size_t>(random.between(n, experts - 1))]);
        ids.push_back(order[static_cast<std::size_t>(n)]);
        weights.push_back(random.uniform(0.05F, 0.5F));
      }
    }
  }

  std::vector<std::uint16_t> run(Device& device, std::uint32_t* status = nullptr) const {
    const int all = experts + shared, pairs = m * (top_k + shared);
    std::vector<std::uint8_t> s13, s2;
    for (int e = 0; e < all; ++e) {
      const auto one13 = static_cast<std::size_t>(2 * inter * hidden), one2 = static_cast<std::size_t>(hidden * inter);
      const auto a = shuffle_weights({w13.data() + static_cast<std::size_t>(e) * one13, one13}, 2 * inter, hidden);
      const auto b = shuffle_weights({w2.data() + static_cast<std::size_t>(e) * one2, one2}, hidden, inter);
      s13.insert(s13.end(), a.begin(), a.end());
      s2.insert(s2.end(), b.begin(), b.end());
    }
    const float u = test::unit(device);
    auto bx = Buffer::of(device, x), b13 = Buffer::of(device, s13), b2 = Buffer::of(device, s2),
         bi = Buffer::of(device, ids), bw = Buffer::of(device, weights);
    auto bxs = Buffer::of(device, test::times(x_scale, u)), b13s = Buffer::of(device, test::times(w13_scale, u)),
         b2s = Buffer::of(device, test::times(w2_scale, u));
    Buffer mid(device, static_cast<std::size_t>(pairs) * inter),
        mid_scale(device, static_cast<std::size_t>(inter / 128 * pairs) * 4);
    Buffer y(device, static_cast<std::size_t>(pairs) * hidden * 4),
        out(device, static_cast<std::size_t>(m) * hidden * 2);
    Buffer order(device, moe_order_ints(pairs, all) * 4),
        tile_expert(device, static_cast<std::size_t>(pairs + all) * 4), count(device, 16), bstatus(device, 16);
    require(device.fill(bstatus.data(), 0, 16));
    MoeArgs a{};
    a.x = bx.data(), a.x_scale = bxs.data<float>(), a.ids = bi.data<int>(), a.weights = bw.data<float>();
    a.w13 = b13.data(), a.w13_scale = b13s.data<float>(), a.w2 = b2.data(), a.w2_scale = b2s.data<float>();
    a.mid = mid.data(), a.mid_scale = mid_scale.data<float>(), a.y = y.data<float>(), a.out = out.data<std::uint16_t>();
    a.order = order.data<int>(), a.tile_expert = tile_expert.data<int>(), a.tile_count = count.data<int>(),
    a.status = bstatus.data<std::uint32_t>();
    a.m = m, a.hidden = hidden, a.inter = inter, a.experts = experts, a.shared = shared, a.top_k = top_k;
    require(fused_moe(device, a));
    require(device.synchronize());
    if (status != nullptr) *status = bstatus.read<std::uint32_t>()[0];
    return out.read<std::uint16_t>();
  }

  // Double precision, the intermediate not rounded.
  Matrix expected() const {
    Matrix out(static_cast<std::size_t>(m * hidden), 0.0);
    for (int t = 0; t < m; ++t)
      for (int j = 0; j < top_k + shared; ++j) {
        const int e = j < top_k ? ids[static_cast<std::size_t>(t * top_k + j)] : experts + j - top_k;
        if (e < 0 || e >= experts + shared || (j < top_k && e >= experts)) continue;
        const double weight = j < top_k ? static_cast<double>(weights[static_cast<std::size_t>(t * top_k + j)]) : 1.0;
        auto xv = [&](int c) {
          return static_cast<double>(fp8_decode(x[static_cast<std::size_t>(t * hidden + c)], Fp8Format::fnuz)) *
                 static_cast<double>(x_scale[static_cast<std::size_t>(c / 128 * m + t)]);
        };
        std::vector<double> mid(static_cast<std::size_t>(inter));
        for (int i = 0; i < inter; ++i) {
          double gate = 0, up = 0;
          for (int c = 0; c < hidden; ++c) {
            auto w = [&](int n) {
              const auto at = (static_cast<std::size_t>(e) * 2 * inter + static_cast<std::size_t>(n)) * hidden +
                              static_cast<std::size_t>(c);
              const auto s = (static_cast<std::size_t>(e) * (2 * inter / 128) + static_cast<std::size_t>(n / 128)) *
                                 (hidden / 128) +
                             static_cast<std::size_t>(c / 128);
              return static_cast<double>(fp8_decode(w13[at], Fp8Format::fnuz)) * static_cast<double>(w13_scale[s]);
            };
            gate += xv(c) * w(i);
            up += xv(c) * w(inter + i);
          }
          mid[static_cast<std::size_t>(i)] = reference::silu(gate) * up;
        }
        for (int n = 0; n < hidden; ++n) {
          double s = 0;
          for (int i = 0; i < inter; ++i) {
            const auto at = (static_cast<std::size_t>(e) * hidden + static_cast<std::size_t>(n)) * inter +
                            static_cast<std::size_t>(i);
            const auto sc =
                (static_cast<std::size_t>(e) * (hidden / 128) + static_cast<std::size_t>(n / 128)) * (inter / 128) +
                static_cast<std::size_t>(i / 128);
            s += mid[static_cast<std::size_t>(i)] * static_cast<double>(fp8_decode(w2[at], Fp8Format::fnuz)) *
                 static_cast<double>(w2_scale[sc]);
          }
          out[static_cast<std::size_t>(t * hidden + n)] += weight * s;
        }
      }
    return out;
  }
};

// The intermediate is rounded to FP8: independent relative errors up to 2^-4, uniform in the last place, so a root mean
// square of about 2^-4 / sqrt(3) / 1.4 = 0.026 for each value and the same for their sum. 0.04 allows for the smaller
// values of a group, which lose more.
constexpr double kMoeBound = 0.04;

TEST(FusedMoe, EqualsTheReferenceWithRoutedAndSharedExpertsTogether) {
  test::Random random(42);
  struct Shape {
    int m, hidden, inter, experts, shared, top_k;
  };
  for (const Shape& s : {Shape{5, 256, 128, 8, 1, 3}, Shape{1, 128, 256, 4, 0, 2}, Shape{70, 128, 128, 2, 1, 1},
                         Shape{9, 128, 128, 0, 1, 0}}) {
    const Moe moe(random, s.m, s.hidden, s.inter, s.experts, s.shared, s.top_k);
    const Matrix expected = moe.expected();
    test::SameBits same;
    for (const auto& device : test::all_devices(42)) {
      SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " " << device->name() << " m " << s.m);
      std::uint32_t status = 0;
      const auto got = moe.run(*device, &status);
      EXPECT_EQ(status, 0U);
      same.expect(*device, "output", got);
      EXPECT_LT(test::relative_rms(test::widened(got), expected), kMoeBound);
    }
  }
}

TEST(FusedMoe, OneExpertMayTakeAllTokensAndDroppedPairsAddNothing) {
  test::Random random(43);
  Moe moe(random, 40, 128, 128, 4, 1, 2);
  for (int t = 0; t < 40; ++t) {
    moe.ids[static_cast<std::size_t>(2 * t)] = 3;
    moe.ids[static_cast<std::size_t>(2 * t + 1)] =
        t % 2 == 0 ? -1 : 7;  // a dead rank's expert; an id that does not exist
  }
  const Matrix expected = moe.expected();
  test::SameBits same;
  for (const auto& device : test::all_devices(43)) {
    SCOPED_TRACE(device->name());
    std::uint32_t status = 0;
    const auto got = moe.run(*device, &status);
    EXPECT_EQ(status, kStatusExpertOutOfRange);
    same.expect(*device, "output", got);
    EXPECT_LT(test::relative_rms(test::widened(got), expected), kMoeBound);
  }
}

TEST(FusedMoe, ATokensBitsDoNotDependOnItsBatch) {
  test::Random random(44);
  const Moe all(random, 150, 128, 128, 2, 1, 1);  // tiles of 64
  test::SameBits same;
  for (const auto& device : test::all_devices(44)) {
    SCOPED_TRACE(device->name());
    const auto whole = all.run(*device);
    same.expect(*device, "output", whole);
    for (const int t : {0, 77, 149}) {
      Moe one = all;  // tiles of 32
      one.m = 1;
      one.x.assign(all.x.begin() + t * 128, all.x.begin() + (t + 1) * 128);
      one.x_scale = {all.x_scale[static_cast<std::size_t>(t)]};
      one.ids = {all.ids[static_cast<std::size_t>(t)]};
      one.weights = {all.weights[static_cast<std::size_t>(t)]};
      const auto got = one.run(*device);
      ASSERT_EQ(0, std::memcmp(got.data(), whole.data() + static_cast<std::size_t>(t) * 128, 256)) << t;
    }
  }
}

TEST(FusedMoe, APoisonedTokenPoisonsOnlyItself) {
  test::Random random(45);
  Moe moe(random, 10, 128, 128, 4, 1, 2);
  moe.x_scale[6] = NAN;
  test::SameBits same;
  for (const auto& device : test::all_devices(45)) {
    const auto got = moe.run(*device);
    same.expect(*device, "output", got);
    for (int t = 0; t < 10; ++t)
      for (int c = 0; c < 128; ++c)
        ASSERT_EQ(std::isnan(bf16_to_float(got[static_cast<std::size_t>(t * 128 + c)])), t == 6) << t;
  }
}

TEST(FusedMoe, ZeroTokensDoNothingAndBadShapesAreRefused) {
  auto device = make_cpu_device();
  MoeArgs a{};
  a.hidden = 128, a.inter = 128, a.experts = 4, a.top_k = 1;
  EXPECT_TRUE(static_cast<bool>(fused_moe(*device, a)));
  a.hidden = 100;
  EXPECT_FALSE(static_cast<bool>(fused_moe(*device, a)));
}

// The exchange of one rank with itself and others: what every rank would receive stands in send.
TEST(Exchange, EachTokenGoesOnceToEachAliveRankAndComesBackInTheSum) {
  test::Random random(46);
  const int m = 21, top_k = 4, ranks = 4, per_rank = 4, hidden = 64, capacity = 24;
  std::vector<int> ids(m * top_k);
  std::vector<float> weights(m * top_k);
  for (auto& e : ids) e = random.chance(0.1) ? -1 : random.below(ranks * per_rank);
  for (auto& w : weights) w = random.uniform(0.1F, 1.0F);
  const auto x = test::random_codes(random, static_cast<std::size_t>(m * hidden));
  std::vector<std::uint16_t> parts(static_cast<std::size_t>(m * ranks * hidden));  // token, rank: of many sizes
  for (auto& v : parts) v = float_to_bf16(random.normal(std::exp(random.normal(3))));
  test::SameBits same;
  for (const auto& device : test::all_devices(46)) {
    SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " " << device->name());
    auto bx = Buffer::of(*device, x), bi = Buffer::of(*device, ids), bw = Buffer::of(*device, weights);
    Buffer alive(*device, 64, true), send(*device, static_cast<std::size_t>(ranks * capacity * hidden)),
        send_ids(*device, static_cast<std::size_t>(ranks * capacity * top_k * 4));
    Buffer send_weights(*device, static_cast<std::size_t>(ranks * capacity * top_k * 4)), sent(*device, 64),
        slot(*device, static_cast<std::size_t>(m * ranks * 4));
    Buffer returned(*device, static_cast<std::size_t>(ranks * capacity * hidden * 2)),
        out(*device, static_cast<std::size_t>(m * hidden * 2));
    auto* mask = alive.data<std::uint32_t>();
    for (int r = 0; r < ranks; ++r) mask[r] = 1;
    const ExchangeArgs args{bx.data(),
                            bi.data<int>(),
                            bw.data<float>(),
                            mask,
                            send.data(),
                            send_ids.data<int>(),
                            send_weights.data<float>(),
                            sent.data<int>(),
                            slot.data<int>(),
                            returned.data<std::uint16_t>(),
                            out.data<std::uint16_t>(),
                            m,
                            top_k,
                            ranks,
                            per_rank,
                            hidden,
                            hidden,
                            capacity};
    FAULTLINE_DONE(device->begin_capture());
    FAULTLINE_DONE(ep_dispatch(*device, args));
    auto dispatch = device->end_capture();
    ASSERT_TRUE(static_cast<bool>(dispatch));
    for (const int dead : {-1, 2}) {
      // The same graph, before and after a rank's death: the mask is read when it runs.
      if (dead >= 0) mask[dead] = 0;
      FAULTLINE_DONE(device->run(*dispatch.value()));
      FAULTLINE_DONE(device->synchronize());
      const auto counts = sent.read<int>();
      const auto slots = slot.read<int>();
      const auto rows = send.read<std::uint8_t>();
      const auto local = send_ids.read<int>();
      const auto local_weights = send_weights.read<float>();
      std::vector<int> wanted_count(ranks, 0);
      std::vector<std::uint16_t> answers(static_cast<std::size_t>(ranks * capacity * hidden), float_to_bf16(NAN));
      for (int t = 0; t < m; ++t)
        for (int r = 0; r < ranks; ++r) {
          bool wanted = false;
          for (int k = 0; k < top_k; ++k)
            wanted = wanted || (ids[static_cast<std::size_t>(t * top_k + k)] >= 0 &&
                                ids[static_cast<std::size_t>(t * top_k + k)] / per_rank == r);
          wanted = wanted && r != dead;
          const int s = slots[static_cast<std::size_t>(t * ranks + r)];
          ASSERT_EQ(s >= 0, wanted) << t << " " << r;
          if (!wanted) continue;
          ++wanted_count[static_cast<std::size_t>(r)];
          const auto at = static_cast<std::size_t>(r * capacity + s);
          ASSERT_EQ(0, std::memcmp(&rows[at * hidden], &x[static_cast<std::size_t>(t * hidden)], hidden));
          for (int k = 0; k < top_k; ++k) {
            const int e = ids[static_cast<std::size_t>(t * top_k + k)];
            const bool here = e >= 0 && e / per_rank == r;
            ASSERT_EQ(local[at * top_k + static_cast<std::size_t>(k)], here ? e % per_rank : -1);
            ASSERT_EQ(local_weights[at * top_k + static_cast<std::size_t>(k)],
                      here ? weights[static_cast<std::size_t>(t * top_k + k)] : 0.0F);
          }
          for (int c = 0; c < hidden; ++c)
            answers[at * hidden + static_cast<std::size_t>(c)] =
                float_to_bf16(static_cast<float>(r + 1) * static_cast<float>(t % 7));
        }
      for (int r = 0; r < ranks; ++r)
        EXPECT_EQ(counts[static_cast<std::size_t>(r)], wanted_count[static_cast<std::size_t>(r)]);
      returned.write(answers.data(), answers.size() * 2);
      if (dead < 0) mask[3] = 0;  // dies between the two
      FAULTLINE_DONE(ep_combine(*device, args));
      const auto sums = out.read<std::uint16_t>();
      for (int t = 0; t < m; ++t) {
        float expected = 0;  // small integers: exact
        for (int r = 0; r < ranks; ++r)
          if (slots[static_cast<std::size_t>(t * ranks + r)] >= 0 && mask[r] != 0)
            expected += static_cast<float>(r + 1) * static_cast<float>(t % 7);
        for (int c = 0; c < hidden; ++c)
          ASSERT_EQ(bf16_to_float(sums[static_cast<std::size_t>(t * hidden + c)]), expected) << t;
      }
      // Whatever place a token has, its sum is formed in the order of ranks: the same bits everywhere.
      for (int t = 0; t < m; ++t)
        for (int r = 0; r < ranks; ++r)
          if (const int s = slots[static_cast<std::size_t>(t * ranks + r)]; s >= 0)
            std::memcpy(&answers[static_cast<std::size_t>((r * capacity + s) * hidden)],
                        &parts[static_cast<std::size_t>((t * ranks + r) * hidden)],
                        static_cast<std::size_t>(hidden) * 2);
      returned.write(answers.data(), answers.size() * 2);
      FAULTLINE_DONE(ep_combine(*device, args));
      same.expect(*device, "sums, dead " + std::to_string(dead), out.read<std::uint16_t>());
      mask[3] = 1;
    }
  }
}

}  // namespace
}  // namespace faultline::kernels
