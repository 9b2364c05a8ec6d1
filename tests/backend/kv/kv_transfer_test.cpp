// The KV hand-off over in-process transports in virtual time: layers as they come, failures of rails and of either
// side, deadlines, and above all when blocks may be used again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "backend/inproc/clocks.h"
#include "backend/inproc/inproc_transport.h"
#include "backend/kv/receiver.h"
#include "backend/kv/sender.h"
#include "core/base/random.h"
#include "core/fault/faulty_transport.h"

namespace faultline::kv {
namespace {

constexpr EndpointId kPeer{1};
constexpr RegionId kLocal{1}, kRemote{2};

/// A prefill side and a decode side joined by `rails` paths.
struct World {
  explicit World(std::size_t rail_count, Layout l = {.layers = 6, .blocks = 20, .slice_bytes = 512},
                 fault::TransportFaults faults = {}, ReceiverSettings receiver_settings = {})
      : layout(l),
        fabric(clock),
        source(static_cast<std::size_t>(l.pool_bytes())),
        target(static_cast<std::size_t>(l.pool_bytes())) {
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(mix64(i));
    std::vector<Transport*> from, to;
    std::vector<Rail> rails;
    for (std::size_t r = 0; r < rail_count; ++r) {
      a.push_back(std::make_unique<inproc::InprocTransport>(fabric));
      b.push_back(std::make_unique<inproc::InprocTransport>(fabric));
      faults.seed = r + 1;
      fa.push_back(std::make_unique<fault::FaultyTransport>(*a[r], clock, faults));
      EXPECT_TRUE(a[r]->register_memory(kLocal, source));
      EXPECT_TRUE(b[r]->register_memory(kLocal, target));
      EXPECT_TRUE(a[r]->open(kPeer, b[r]->local_address()));
      EXPECT_TRUE(b[r]->open(kPeer, a[r]->local_address()));
      EXPECT_TRUE(a[r]->import_region(kRemote, kPeer, b[r]->export_region(kLocal)));
      from.push_back(fa[r].get());
      to.push_back(b[r].get());
      rails.push_back({kPeer, kLocal, kRemote});
    }
    sender = std::make_unique<Sender>(layout, from, rails, [this] { return OpId{++ops}; });
    receiver = std::make_unique<Receiver>(layout, receiver_settings, to, rails, [this] { return OpId{++ops}; });
    run(Duration{1'000'000});
  }

  void turn() {
    std::array<TransportEvent, 16> out;
    for (std::size_t r = 0; r < a.size(); ++r) {
      for (std::size_t count = 0; fa[r] && (count = fa[r]->poll(out)) > 0;) {
        for (std::size_t i = 0; i < count; ++i) sender->handle(r, out[i]);
      }
      for (std::size_t count = 0; b[r] && (count = b[r]->poll(out)) > 0;) {
        for (std::size_t i = 0; i < count; ++i) receiver->handle(r, out[i], clock.now());
      }
    }
    receiver->tick(clock.now());
    for (auto& event : sender->take_events()) sent.push_back(event);
    for (auto& event : receiver->take_events()) received.push_back(event);
  }
  void run(Duration time) {
    const Instant end = clock.now() + time;
    turn();
    while (clock.now() < end) {
      Instant next = std::min(fabric.next_due(), receiver ? receiver->next_deadline() : kNever);
      for (const auto& f : fa) next = std::min(next, f ? f->next_due() : kNever);
      clock.advance_to(std::clamp(next, clock.now() + Duration{1'000}, end));
      turn();
    }
  }
  void push_all(RequestId request, const std::vector<std::uint32_t>& from, const Ticket& ticket,
                Duration per_layer = {}) {
    sender->begin(request, from, ticket);
    for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
      sender->layer_ready(request, layer);
      if (per_layer.v > 0) run(per_layer);
    }
  }
  template <class Event, class List>
  static std::vector<Event> all(const List& list) {
    std::vector<Event> found;
    for (const auto& event : list) {
      if (const auto* e = std::get_if<Event>(&event)) found.push_back(*e);
    }
    return found;
  }
  void expect_same(const std::vector<std::uint32_t>& from, const std::vector<std::uint32_t>& to) {
    for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (std::size_t i = 0; i < from.size(); ++i) {
        EXPECT_EQ(
            std::memcmp(source.data() + layout.offset(layer, from[i]), target.data() + layout.offset(layer, to[i]),
                        static_cast<std::size_t>(layout.slice_bytes)),
            0)
            << "layer " << layer << " block " << to[i];
      }
    }
  }
  Instant in(Duration d) { return clock.now() + d; }

  Layout layout;
  inproc::ManualClock clock;
  inproc::Fabric fabric;
  std::vector<std::byte> source, target;
  std::vector<std::unique_ptr<inproc::InprocTransport>> a, b;
  std::vector<std::unique_ptr<fault::FaultyTransport>> fa;
  std::unique_ptr<Sender> sender;
  std::unique_ptr<Receiver> receiver;
  std::vector<SenderEvent> sent;
  std::vector<ReceiverEvent> received;
  std::uint64_t ops = 0;
};

constexpr RequestId kRequest{5};
constexpr Duration kSecond{1'000'000'000};

TEST(KvTransfer, LayersArriveWhilePrefillStillRuns) {
  World w(1, {.layers = 6, .blocks = 20, .slice_bytes = 512}, {}, {.layer_events = true});
  const auto ticket = w.receiver->expect(kRequest, {9, 3, 4}, w.in(kSecond));
  w.sender->begin(kRequest, {0, 7, 8}, ticket);
  for (std::uint32_t layer = 0; layer < 5; ++layer) {
    w.sender->layer_ready(kRequest, layer);
    w.run(Duration{1'000'000});
    EXPECT_EQ(World::all<LayerArrived>(w.received).size(), layer + 1U);
  }
  EXPECT_TRUE(World::all<Arrived>(w.received).empty());
  w.sender->layer_ready(kRequest, 5);
  w.run(Duration{1'000'000});
  EXPECT_EQ(World::all<Arrived>(w.received).size(), 1U);
  ASSERT_EQ(World::all<Sent>(w.sent).size(), 1U);
  EXPECT_EQ(World::all<Sent>(w.sent)[0].bytes.v, 3 * 6 * 512);
  w.expect_same({0, 7, 8}, {9, 3, 4});
  EXPECT_EQ(w.sender->active() + w.receiver->active(), 0U);
}

TEST(KvTransfer, ManyAtOnceShareARailWithoutMixing) {
  World w(2);
  for (std::uint32_t r = 0; r < 10; ++r)
    w.push_all(RequestId{r}, {2 * r, 2 * r + 1},
               w.receiver->expect(RequestId{r}, {19 - 2 * r, 18 - 2 * r}, w.in(kSecond)));
  w.run(kSecond / 2);
  EXPECT_EQ(World::all<Arrived>(w.received).size(), 10U);
  for (std::uint32_t r = 0; r < 10; ++r) w.expect_same({2 * r, 2 * r + 1}, {19 - 2 * r, 18 - 2 * r});
}

TEST(KvTransfer, ALostRailMovesItsLayersToAnother) {
  World w(2);
  const auto ticket = w.receiver->expect(kRequest, {0, 1}, w.in(10 * kSecond));
  w.fabric.break_route(*w.a[0], *w.b[0]);
  w.push_all(kRequest, {4, 5}, ticket);
  w.run(3 * kSecond);
  EXPECT_EQ(World::all<Arrived>(w.received).size(), 1U);
  EXPECT_EQ(World::all<Sent>(w.sent).size(), 1U);
  EXPECT_GE(w.sender->resent(), 1U);
  w.expect_same({4, 5}, {0, 1});
}

TEST(KvTransfer, WithoutAnyRailBothSidesFailAndTheBlocksComeBack) {
  World w(2);
  const auto ticket = w.receiver->expect(kRequest, {0, 1}, w.in(10 * kSecond));
  for (std::size_t r : {0, 1}) w.fabric.break_route(*w.a[r], *w.b[r]);
  w.push_all(kRequest, {4, 5}, ticket);
  w.run(5 * kSecond);
  ASSERT_EQ(World::all<SendFailed>(w.sent).size(), 1U);
  EXPECT_EQ(World::all<SendFailed>(w.sent)[0].cause, Cause::link_down);
  ASSERT_EQ(World::all<ReceiveFailed>(w.received).size(), 1U);
  ASSERT_EQ(World::all<BlocksFree>(w.received).size(), 1U);
  EXPECT_EQ(World::all<BlocksFree>(w.received)[0].blocks, (std::vector<std::uint32_t>{0, 1}));
}

TEST(KvTransfer, ASenderThatAbortsSaysSoAndTheReceiverFreesAtOnce) {
  World w(1);
  const auto ticket = w.receiver->expect(kRequest, {0}, w.in(10 * kSecond));
  w.sender->begin(kRequest, {4}, ticket);
  w.sender->layer_ready(kRequest, 0);
  w.sender->abort(kRequest);
  w.run(kSecond / 10);
  ASSERT_EQ(World::all<ReceiveFailed>(w.received).size(), 1U);
  EXPECT_EQ(World::all<ReceiveFailed>(w.received)[0].cause, Cause::canceled);
  EXPECT_EQ(World::all<BlocksFree>(w.received).size(), 1U);
  w.sender->layer_ready(kRequest, 1);  // prefill did not know yet
  EXPECT_EQ(w.sender->active(), 0U);
}

TEST(KvTransfer, APassedDeadlineStopsTheSenderBeforeTheBlocksAreFree) {
  World w(1);
  const auto ticket = w.receiver->expect(kRequest, {0}, w.in(kSecond / 10));
  w.sender->begin(kRequest, {4}, ticket);
  w.sender->layer_ready(kRequest, 0);
  w.run(kSecond / 20);
  EXPECT_TRUE(w.received.empty());
  w.run(kSecond / 5);
  ASSERT_EQ(World::all<ReceiveFailed>(w.received).size(), 1U);
  EXPECT_EQ(World::all<ReceiveFailed>(w.received)[0].cause, Cause::timeout);
  ASSERT_EQ(World::all<SendFailed>(w.sent).size(), 1U);  // it was told
  EXPECT_EQ(World::all<BlocksFree>(w.received).size(), 1U);
}

TEST(KvTransfer, BlocksAreNotFreeWhileASilentSenderMightStillWrite) {
  World w(1, {.layers = 6, .blocks = 20, .slice_bytes = 512}, {}, {.layer_events = false, .fence_after = kSecond});
  w.receiver->expect(kRequest, {0}, w.in(kSecond / 10));
  w.fa[0].reset();  // its engine hangs: nobody polls there, but its transport lives
  w.run(kSecond / 2);
  EXPECT_EQ(World::all<ReceiveFailed>(w.received).size(), 1U);
  EXPECT_TRUE(World::all<BlocksFree>(w.received).empty());
  w.run(kSecond);  // fence: the receiver closes the rail itself
  EXPECT_EQ(World::all<BlocksFree>(w.received).size(), 1U);
  const Status late = w.a[0]->post({OpId{1'000'000}, kPeer, {{kLocal, {0}, kRemote, {0}, {512}}}, {}});
  w.run(kSecond);
  EXPECT_TRUE(std::all_of(w.target.begin(), w.target.begin() + 512, [](std::byte b) { return b == std::byte{0}; }))
      << "late write, post said " << name_of(late.cause());
}

TEST(KvTransfer, ASenderThatDiesFreesTheBlocks) {
  for (std::uint32_t layers_before = 0; layers_before < 6; ++layers_before) {
    World w(2);
    const auto ticket = w.receiver->expect(kRequest, {0}, w.in(10 * kSecond));
    w.sender->begin(kRequest, {4}, ticket);
    for (std::uint32_t layer = 0; layer < layers_before; ++layer) w.sender->layer_ready(kRequest, layer);
    for (std::size_t r : {0, 1}) {
      w.fa[r].reset();
      w.a[r].reset();
    }
    w.run(kSecond);
    ASSERT_EQ(World::all<ReceiveFailed>(w.received).size(), 1U) << layers_before;
    EXPECT_EQ(World::all<ReceiveFailed>(w.received)[0].cause, Cause::peer_lost);
    EXPECT_EQ(World::all<BlocksFree>(w.received).size(), 1U);
  }
}

TEST(KvTransfer, AReceiverThatDiesFailsTheSender) {
  World w(2);
  const auto ticket = w.receiver->expect(kRequest, {0}, w.in(10 * kSecond));
  w.sender->begin(kRequest, {4}, ticket);
  w.sender->layer_ready(kRequest, 0);
  for (std::size_t r : {0, 1}) w.b[r].reset();
  w.run(kSecond);
  ASSERT_EQ(World::all<SendFailed>(w.sent).size(), 1U);
  EXPECT_EQ(World::all<SendFailed>(w.sent)[0].cause, Cause::peer_lost);
}

TEST(KvTransfer, LostAcknowledgementsOnlyRepeatLayers) {
  World w(2, {.layers = 40, .blocks = 20, .slice_bytes = 512},
          {.fail_early_ratio = 0.1, .fail_late_ratio = 0.1, .lose_notify_ratio = 0.1});
  w.push_all(kRequest, {4, 5}, w.receiver->expect(kRequest, {0, 1}, w.in(60 * kSecond)), Duration{100'000});
  w.run(5 * kSecond);
  EXPECT_EQ(World::all<Arrived>(w.received).size(), 1U);
  EXPECT_EQ(World::all<Sent>(w.sent).size(), 1U);
  EXPECT_GT(w.sender->resent(), 0U);
  w.expect_same({4, 5}, {0, 1});
}

TEST(KvTransfer, ARailThatNeverWorksEndsInRetriesExhausted) {
  World w(1, {.layers = 6, .blocks = 20, .slice_bytes = 512}, {.fail_late_ratio = 1});
  w.push_all(kRequest, {4}, w.receiver->expect(kRequest, {0}, w.in(60 * kSecond)));
  w.run(kSecond);
  ASSERT_EQ(World::all<SendFailed>(w.sent).size(), 1U);
  EXPECT_EQ(World::all<SendFailed>(w.sent)[0].cause, Cause::retries_exhausted);
}

TEST(KvTransfer, RandomRunsLoseNoRequestAndNoBlock) {
  const std::uint64_t seed = 77;
  std::printf("seed=%llu\n", static_cast<unsigned long long>(seed));
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random r(seed, "test/kv", round);
    World w(1 + r.below(3), {.layers = 5, .blocks = 64, .slice_bytes = 256},
            {.fail_early_ratio = 0.05 * r.uniform(),
             .fail_late_ratio = 0.05 * r.uniform(),
             .lose_notify_ratio = 0.05,
             .stall_ratio = 0.01,
             .extra_latency = Duration{static_cast<std::int64_t>(r.below(2'000'000))}});
    std::set<std::uint32_t> free_blocks;
    for (std::uint32_t block = 0; block < 64; ++block) free_blocks.insert(block);
    std::map<RequestId, std::vector<std::uint32_t>> held;
    std::size_t arrived = 0, failed = 0, begun = 0;
    std::size_t seen = 0;
    for (int step = 0; step < 60; ++step) {
      if (free_blocks.size() >= 4 && begun < 30) {
        const RequestId request{static_cast<std::uint32_t>(begun++)};
        std::vector<std::uint32_t> blocks;
        for (int k = 0; k < 4; ++k) {
          blocks.push_back(*free_blocks.begin());
          free_blocks.erase(free_blocks.begin());
        }
        held[request] = blocks;
        const auto ticket =
            w.receiver->expect(request, blocks, w.in(Duration{static_cast<std::int64_t>(r.below(3'000'000'000))}));
        if (r.chance(0.9)) w.push_all(request, blocks, ticket);
        if (r.chance(0.1)) w.sender->abort(request);
        if (r.chance(0.1)) w.receiver->cancel(request, w.clock.now());
      }
      if (r.chance(0.03)) w.fabric.break_route(*w.a[0], *w.b[0]);
      w.run(Duration{static_cast<std::int64_t>(r.below(50'000'000))});
      for (; seen < w.received.size(); ++seen) {
        if (const auto* e = std::get_if<Arrived>(&w.received[seen])) {
          w.expect_same(held.at(e->request), held.at(e->request));
          free_blocks.insert(held.at(e->request).begin(), held.at(e->request).end());
          held.erase(e->request);
          ++arrived;
        } else if (const auto* f = std::get_if<BlocksFree>(&w.received[seen])) {
          EXPECT_EQ(f->blocks, held.at(f->request));
          free_blocks.insert(f->blocks.begin(), f->blocks.end());
          held.erase(f->request);
          ++failed;
        }
      }
    }
    w.run(20 * kSecond);
    for (; seen < w.received.size(); ++seen) {
      if (std::holds_alternative<Arrived>(w.received[seen])) ++arrived;
      if (std::holds_alternative<BlocksFree>(w.received[seen])) ++failed;
    }
    EXPECT_EQ(arrived + failed, begun) << "seed " << seed << " round " << round;
    EXPECT_EQ(w.receiver->active(), 0U) << "seed " << seed << " round " << round;
    EXPECT_EQ(w.sender->active(), 0U) << "seed " << seed << " round " << round;
  }
}

}  // namespace
}  // namespace faultline::kv
