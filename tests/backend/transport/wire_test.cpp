// Frames and handshake as pure functions: round trips, every kind of nonsense, and fuzzing by bit flips and noise.
#include <gtest/gtest.h>

#include "backend/transport/frame.h"
#include "backend/transport/handshake.h"
#include "core/base/cause.h"
#include "core/base/random.h"

namespace faultline::transport {
namespace {

template <std::size_t N>
std::span<const std::byte, N> view(const std::array<std::byte, N>& bytes) {
  return bytes;
}

Frame data_frame() {
  return {.type = FrameType::data,
          .flags = kNotifyFlag,
          .length = 1000,
          .sequence = 7,
          .key = 0x1234567890abcdefULL,
          .offset = 1ULL << 40,
          .tag = 0xffffffff,
          .parts = 3};
}

TEST(Frame, EveryTypeComesBackAsItWas) {
  for (const Frame& frame :
       {data_frame(), Frame{.type = FrameType::data, .flags = kEmptyFlag, .parts = 1},
        Frame{.type = FrameType::ack, .sequence = 99},
        Frame{.type = FrameType::nack, .sequence = 5, .tag = static_cast<std::uint32_t>(Cause::protection)},
        Frame{.type = FrameType::ping, .sequence = 1}, Frame{.type = FrameType::pong, .sequence = 1},
        Frame{.type = FrameType::ready}}) {
    const auto bytes = encode(frame);
    const auto back = decode(view(bytes));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(*back, frame);
  }
}

TEST(Frame, WhatNoHonestPeerSendsIsRefused) {
  const auto refused = [](Frame frame) { return !decode(view(encode(frame))).has_value(); };
  Frame frame = data_frame();
  frame.length = kPayloadMax + 1;
  EXPECT_TRUE(refused(frame));
  frame = data_frame();
  frame.parts = 0;
  EXPECT_TRUE(refused(frame));
  frame.parts = kPartsMax + 1;
  EXPECT_TRUE(refused(frame));
  frame = data_frame();
  frame.flags = 0xff;
  EXPECT_TRUE(refused(frame));
  frame = data_frame();
  frame.length = 0;  // no bytes, and not marked as an empty batch
  EXPECT_TRUE(refused(frame));
  EXPECT_TRUE(refused({.type = FrameType::data, .flags = kEmptyFlag, .length = 5, .parts = 1}));
  EXPECT_TRUE(refused({.type = FrameType::data, .flags = kEmptyFlag, .parts = 2}));
  EXPECT_TRUE(refused({.type = FrameType::ack, .length = 1}));
  EXPECT_TRUE(refused({.type = FrameType::nack, .tag = 0}));
  EXPECT_TRUE(refused({.type = FrameType::nack, .tag = 1000}));
  EXPECT_TRUE(refused({.type = static_cast<FrameType>(0)}));
  EXPECT_TRUE(refused({.type = static_cast<FrameType>(77)}));
}

TEST(Frame, NoiseIsRefusedOrWithinItsLimits) {
  Random r(5, "test/frame");
  int accepted = 0;
  for (int i = 0; i < 200'000; ++i) {
    auto bytes = encode(data_frame());
    if (r.chance(0.5)) {
      for (std::byte& b : bytes) b = static_cast<std::byte>(r.bits());
    } else {
      for (std::uint64_t k = 0; k < 1 + r.below(6); ++k)
        bytes[r.below(bytes.size())] ^= static_cast<std::byte>(1U << r.below(8));
    }
    const auto frame = decode(view(bytes));
    if (!frame) continue;
    ++accepted;
    EXPECT_LE(frame->length, kPayloadMax);
    EXPECT_LE(frame->parts, kPartsMax);
    EXPECT_EQ(encode(*frame), bytes);  // nothing is read two ways
  }
  EXPECT_GT(accepted, 0);  // flips in key or offset are not the frame's to judge
}

struct Parties {
  Hello hello{.from = {1},
              .to = {2},
              .session = 77,
              .stream = 1,
              .streams = 2,
              .ops_in_flight_max = 64,
              .info_length = 0,
              .nonce = {9, 9}};
  Challenge challenge{.from = {2}, .ops_in_flight_max = 32, .info_length = 0, .nonce = {8, 8}};
};

TEST(Handshake, TwoWhoKnowTheSecretAcceptEachOther) {
  const Parties p;
  const auto hello = encode(p.hello);
  ASSERT_EQ(decode_hello(view(hello)), p.hello);
  const auto challenge = make_challenge("secret", hello, p.challenge);
  const auto accepted = check_challenge("secret", hello, p.hello.to, view(challenge));
  ASSERT_TRUE(accepted.has_value());
  EXPECT_EQ(accepted->ops_in_flight_max, 32U);
  const auto proof = make_proof("secret", hello, view(challenge));
  EXPECT_TRUE(check_proof("secret", hello, view(challenge), view(proof)));
}

TEST(Handshake, AnotherSecretIsRefusedByBothSides) {
  const Parties p;
  const auto hello = encode(p.hello);
  const auto challenge = make_challenge("secret", hello, p.challenge);
  EXPECT_FALSE(check_challenge("other", hello, p.hello.to, view(challenge)).has_value());
  EXPECT_FALSE(check_challenge("", hello, p.hello.to, view(challenge)).has_value());
  const auto proof = make_proof("other", hello, view(challenge));
  EXPECT_FALSE(check_proof("secret", hello, view(challenge), view(proof)));
}

TEST(Handshake, AnAnswerCannotBeReplayedReflectedOrMovedToAnotherSession) {
  const Parties p;
  const auto hello = encode(p.hello);
  const auto challenge = make_challenge("secret", hello, p.challenge);
  const auto proof = make_proof("secret", hello, view(challenge));
  Challenge again = p.challenge;
  again.nonce = {1, 2, 3};
  const auto fresh = make_challenge("secret", hello, again);
  EXPECT_FALSE(check_proof("secret", hello, view(fresh), view(proof)));  // the acceptor's nonce is new each time
  Hello moved = p.hello;
  moved.session = 78;
  const auto other = encode(moved);
  EXPECT_FALSE(check_proof("secret", other, view(challenge), view(proof)));
  EXPECT_FALSE(check_challenge("secret", other, p.hello.to, view(challenge)).has_value());
  std::array<std::byte, kProofBytes> reflected;
  std::copy_n(challenge.end() - kProofBytes, kProofBytes, reflected.begin());
  EXPECT_FALSE(check_proof("secret", hello, view(challenge), view(reflected)));
  EXPECT_FALSE(check_challenge("secret", hello, Uuid{3}, view(challenge)).has_value());  // not who was called
}

TEST(Handshake, EverySingleBitIsCovered) {
  const Parties p;
  const auto hello = encode(p.hello);
  const auto challenge = make_challenge("secret", hello, p.challenge);
  const auto proof = make_proof("secret", hello, view(challenge));
  for (std::size_t bit = 0; bit < 8 * kHelloBytes; ++bit) {
    auto bad = hello;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(check_proof("secret", bad, view(challenge), view(proof)));
  }
  for (std::size_t bit = 0; bit < 8 * kChallengeBytes; ++bit) {
    auto bad = challenge;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(check_challenge("secret", hello, p.hello.to, view(bad)).has_value()) << bit;
  }
}

TEST(Handshake, NonsenseIsNoHello) {
  const auto refused = [](auto change) {
    Parties p;
    change(p.hello);
    return !decode_hello(view(encode(p.hello))).has_value();
  };
  EXPECT_TRUE(refused([](Hello& h) { h.streams = 0; }));
  EXPECT_TRUE(refused([](Hello& h) { h.streams = 1000; }));
  EXPECT_TRUE(refused([](Hello& h) { h.stream = h.streams; }));
  EXPECT_TRUE(refused([](Hello& h) { h.ops_in_flight_max = 0; }));
  EXPECT_TRUE(refused([](Hello& h) { h.ops_in_flight_max = 0xffffffff; }));
  EXPECT_TRUE(refused([](Hello& h) { h.info_length = kHelloInfoMax + 1; }));
  EXPECT_TRUE(refused([](Hello& h) { h.from = h.to; }));
  auto bytes = encode(Parties{}.hello);
  bytes[0] ^= std::byte{1};
  EXPECT_FALSE(decode_hello(view(bytes)).has_value());
}

}  // namespace
}  // namespace faultline::transport
