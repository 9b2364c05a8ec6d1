// Clauses of the transport contract without failures: what arrives where, what is refused, limits and events.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/contract/transport_world.h"

namespace faultline::contract::transport_clauses_detail {

inline constexpr RegionId kLocal{1};     // registered by both sides
inline constexpr RegionId kRemote{101};  // the other's, as imported
inline constexpr std::size_t kSize = 1 << 18;

inline WriteSpan span_of(std::int64_t from, std::int64_t to, std::int64_t length) {
  return {kLocal, {from}, kRemote, {to}, {length}};
}
/// Open, one shared region per side, side 0's filled with a pattern.
inline bool prepare(Link& link, std::size_t size = kSize) {
  if (!link.open() || !link.share(kLocal, kRemote, size)) return false;
  fill(link.memory(0, kLocal), 7);
  return true;
}
inline void expect_bytes(Link& link, std::int64_t from, std::int64_t to, std::int64_t length) {
  if (!link.world().moves_bytes()) return;
  const auto source = link.memory(0, kLocal).subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(length));
  const auto target = link.memory(1, kLocal).subspan(static_cast<std::size_t>(to), static_cast<std::size_t>(length));
  link.verdict().expect(equal(source, target), "bytes of [{}, +{}) are not at [{}, +{}) of the peer", from, length, to,
                        length);
}
inline void expect_untouched(Link& link, std::int64_t from, std::int64_t to) {
  const auto bytes =
      link.memory(1, kLocal).subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
  link.verdict().expect(all_zero(bytes), "bytes in [{}, {}) of the peer were written", from, to);
}
inline std::int64_t size_of_region() { return static_cast<std::int64_t>(kSize); }

inline void both_sides_come_up_once(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!link.open()) return;
  link.settle();
  for (int i : {0, 1})
    v.expect(link.side(i).ups == 1 && link.side(i).downs == 0, "side {}: {} ups, {} downs", i, link.side(i).ups,
             link.side(i).downs);
}

inline void bytes_arrive_at_the_right_place(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  const OpId op = link.write(0, {span_of(100, 5'000, 1'000), span_of(50'000, 9'001, 3), span_of(0, 70'000, 65'537)});
  link.finish_all();
  v.expect(link.completed(0, op), "the operation did not complete");
  expect_bytes(link, 100, 5'000, 1'000);
  expect_bytes(link, 50'000, 9'001, 3);
  expect_bytes(link, 0, 70'000, 65'537);
  expect_untouched(link, 0, 5'000);
  expect_untouched(link, 6'000, 9'001);
  expect_untouched(link, 9'004, 70'000);
  expect_untouched(link, 70'000 + 65'537, size_of_region());
}

inline void a_completion_reports_the_sum_of_its_spans(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  link.write(0, {span_of(0, 0, 1'000), span_of(5'000, 5'000, 24)});
  if (!link.finish_all() || !v.expect(link.side(0).completed.size() == 1, "no completion")) return;
  v.expect(link.side(0).completed[0].bytes == Bytes{1'024}, "{} bytes reported", link.side(0).completed[0].bytes.v);
}

inline void a_large_batch_arrives_whole(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  const std::size_t size = 6 << 20;
  if (!prepare(link, size)) return;
  link.write(0, {{kLocal, {0}, kRemote, {0}, {static_cast<std::int64_t>(size)}}}, 5);
  if (!link.finish_all()) return;
  expect_bytes(link, 0, 0, static_cast<std::int64_t>(size));
}

inline void source_memory_may_change_after_completion(TransportWorld& w, Verdict& v) {
  if (!w.moves_bytes()) return;
  Link link(w, v);
  if (!prepare(link)) return;
  const std::vector<std::byte> before(link.memory(0, kLocal).begin(), link.memory(0, kLocal).end());
  link.write(0, {span_of(0, 0, 100'000)});
  if (!link.finish_all()) return;
  std::memset(link.memory(0, kLocal).data(), 0xee, kSize);
  link.settle();
  v.expect(equal({before.data(), 100'000}, link.memory(1, kLocal).subspan(0, 100'000)),
           "bytes changed after the completion");
}

inline void a_batch_is_visible_before_its_notify(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  constexpr std::int64_t kCount = 48;
  constexpr std::int64_t kPart = 4'096;
  link.side(1).on_notified = [&](std::uint32_t tag) {
    for (std::int64_t part = 0; part < 4; ++part)
      expect_bytes(link, part * 50'000 + tag * 512, part * 50'000 + tag * 512, 512);
  };
  std::int64_t posted = 0;
  link.run_until([&] {
    while (posted < kCount && link.side(0).unfinished() < 8) {
      std::vector<WriteSpan> spans;
      for (std::int64_t part = 0; part < 4; ++part)
        spans.push_back(span_of(part * 50'000 + posted * 512, part * 50'000 + posted * 512, 512));
      link.write(0, std::move(spans), static_cast<std::uint32_t>(posted++));
    }
    return posted == kCount && link.side(0).unfinished() == 0 && link.side(1).notified.size() >= kCount;
  });
  v.expect(link.side(1).notified.size() == kCount, "{} notifies of {}", link.side(1).notified.size(), kCount);
  // Again with bytes enough that an early notify overtakes them even on a fast path.
  std::memset(link.memory(1, kLocal).data(), 0, kSize);
  link.side(1).on_notified = [&](std::uint32_t) { expect_bytes(link, 0, 0, 50 * kPart); };
  for (std::uint32_t k = 0; k < 4; ++k) link.write(0, {span_of(0, 0, 50 * kPart)}, k);
  link.finish_all();
}

inline void a_notify_arrives_once(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  std::vector<std::uint32_t> sent{0, 1, 0x7fffffff, 0xffffffff, 17, 17};  // a tag may be used again
  for (const std::uint32_t tag : sent) link.write(0, {span_of(0, 0, 64)}, tag);
  link.write(0, {span_of(0, 0, 64)});  // none of its own
  link.finish_all();
  link.settle();
  auto got = link.side(1).notified;
  std::sort(got.begin(), got.end());
  std::sort(sent.begin(), sent.end());
  v.expect(got == sent, "notified [{}], sent [{}]", fmt::join(got, " "), fmt::join(sent, " "));
  v.expect(link.side(0).notified.empty(), "the sender was notified");
}

inline void an_empty_batch_completes(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  const OpId silent = link.write(0, {});
  const OpId loud = link.write(0, {}, 42);
  const OpId nothing = link.write(0, {span_of(10, 10, 0), span_of(size_of_region(), size_of_region(), 0)}, 43);
  link.finish_all();
  link.run_until([&] { return link.side(1).notified.size() >= 2; });
  v.expect(link.completed(0, silent) && link.completed(0, loud) && link.completed(0, nothing),
           "an empty batch did not complete");
  v.expect(link.side(1).notified.size() == 2, "{} notifies of 2", link.side(1).notified.size());
  expect_untouched(link, 0, size_of_region());
}

inline void a_span_out_of_range_is_refused_and_writes_nothing(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  const std::vector<WriteSpan> bad{span_of(0, size_of_region() - 10, 11),
                                   span_of(size_of_region() - 10, 0, 11),
                                   span_of(0, size_of_region(), 1),
                                   span_of(-1, 0, 1),
                                   span_of(0, -1, 1),
                                   span_of(0, 0, -1),
                                   span_of(1, 0, huge),
                                   span_of(0, huge, huge),
                                   span_of(huge, 0, 2)};
  for (const WriteSpan& span : bad) {
    const Status status = link.post(0, {link.next_op(), link.side(0).peer, {span_of(0, 0, 64), span}, 9});
    v.expect(status.cause() == Cause::protection, "span from {} to {} length {}: {}", span.local_offset.v,
             span.remote_offset.v, span.length.v, name_of(status.cause()));
  }
  link.settle();
  expect_untouched(link, 0, size_of_region());
  v.expect(link.side(1).notified.empty(), "a refused batch notified");
  v.expect(link.side(0).completed.empty() && link.side(0).failed.empty(), "a refused batch had a terminal event");
}

inline void unknown_ids_are_refused(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  WriteSpan local = span_of(0, 0, 1);
  local.local = RegionId{999};
  WriteSpan remote = span_of(0, 0, 1);
  remote.remote = RegionId{999};
  const EndpointId peer = link.side(0).peer;
  const Status a = link.post(0, {link.next_op(), peer, {local}, {}});
  v.expect(a.cause() == Cause::protection, "unknown local region: {}", name_of(a.cause()));
  const Status b = link.post(0, {link.next_op(), peer, {remote}, {}});
  v.expect(b.cause() == Cause::protection, "unknown remote region: {}", name_of(b.cause()));
  const Status c = link.post(0, {link.next_op(), EndpointId{999}, {}, {}});
  v.expect(c.cause() == Cause::peer_lost, "unknown peer: {}", name_of(c.cause()));
  v.expect(!link.transport(0).deregister(RegionId{999}), "an unknown region was deregistered");
  link.transport(0).close(EndpointId{999});
  link.transport(0).cancel(OpId{999});
  link.settle();
  v.expect(link.side(0).completed.empty() && link.side(0).failed.empty() && !link.side(0).down, "an event came of it");
}

inline void ids_in_use_are_refused(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  const EndpointId peer = link.side(0).peer;
  const Status a = link.transport(0).open(peer, link.transport(1).local_address());
  v.expect(a.cause() == Cause::overload, "open twice: {}", name_of(a.cause()));
  const Status b = link.transport(0).register_memory(kLocal, w.memory(0, 64));
  v.expect(b.cause() == Cause::overload, "register twice: {}", name_of(b.cause()));
  const Status c = link.transport(0).import_region(kRemote, peer, link.transport(1).export_region(kLocal));
  v.expect(c.cause() == Cause::overload, "import twice: {}", name_of(c.cause()));
  link.write(0, {span_of(0, 0, 100)});
  link.finish_all();
  expect_bytes(link, 0, 0, 100);
}

inline void malformed_addresses_and_blobs_are_refused(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  const auto address = link.transport(1).local_address();
  const auto blob = link.transport(1).export_region(kLocal);
  const auto variants = [](const std::vector<std::byte>& good) {
    std::vector<std::vector<std::byte>> bad{{}, {good.begin(), good.end() - 1}, good, good};
    bad[2].push_back(std::byte{1});
    bad[3][0] ^= std::byte{0xff};  // the magic
    return bad;
  };
  std::uint32_t id = 500;
  for (const auto& bad : variants(address)) {
    const Status status = link.transport(0).open(EndpointId{id++}, bad);
    v.expect(status.cause() == Cause::protection, "address of {} bytes: {}", bad.size(), name_of(status.cause()));
  }
  for (const auto& bad : variants(blob)) {
    const Status status = link.transport(0).import_region(RegionId{id++}, link.side(0).peer, bad);
    v.expect(status.cause() == Cause::protection, "blob of {} bytes: {}", bad.size(), name_of(status.cause()));
  }
  const Status stranger = link.transport(0).import_region(RegionId{id++}, EndpointId{999}, blob);
  v.expect(stranger.cause() == Cause::protection, "blob of an unknown owner: {}", name_of(stranger.cause()));
}

inline void limits_are_honoured_and_one_more_is_refused(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  const TransportLimits limits = link.transport(0).limits();
  v.expect(limits.ops_in_flight_max > 0 && limits.spans_per_batch_max > 0 && limits.failure_budget.v > 0,
           "limits are empty");
  // In flight: from post() until poll() hands the terminal event out. Nothing is polled in between.
  for (std::uint32_t i = 0; i < limits.ops_in_flight_max; ++i) link.write(0, {span_of(0, 0, 8)});
  const Status more = link.post(0, {link.next_op(), link.side(0).peer, {span_of(0, 0, 8)}, {}});
  v.expect(more.cause() == Cause::overload, "one operation more than {}: {}", limits.ops_in_flight_max,
           name_of(more.cause()));
  link.finish_all();
  std::vector<WriteSpan> spans;
  for (std::uint32_t i = 0; i < limits.spans_per_batch_max; ++i) spans.push_back(span_of(2 * i, 3 * i, 1));
  const OpId full = link.write(0, spans);
  link.finish_all();
  v.expect(link.completed(0, full), "a batch of {} spans did not complete", spans.size());
  spans.push_back(span_of(0, 0, 1));
  const Status wide = link.post(0, {link.next_op(), link.side(0).peer, spans, {}});
  v.expect(wide.cause() == Cause::overload, "one span more than {}: {}", limits.spans_per_batch_max,
           name_of(wide.cause()));
}

inline void a_short_poll_buffer_loses_nothing(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  for (std::uint32_t k = 0; k < 16; ++k) {
    link.write(0, {span_of(0, 0, 64)}, k);
    link.write(1, {span_of(0, 0, 64)}, k);
  }
  const Instant full = w.now() + Duration{100'000'000};  // nobody polls meanwhile: the events pile up
  w.run_until([&] { return w.now() >= full; }, kPatience);
  v.expect(link.transport(0).poll({}) == 0, "poll into nothing returned something");
  link.set_poll_size(1);
  link.finish_all();
  link.run_until([&] { return link.side(0).notified.size() >= 16 && link.side(1).notified.size() >= 16; });
  v.expect(link.side(0).notified.size() == 16 && link.side(1).notified.size() == 16, "notifies: {} and {} of 16",
           link.side(0).notified.size(), link.side(1).notified.size());
}

inline void posting_while_handling_an_event_is_safe(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  int left = 300;
  link.side(0).on_event = [&](const TransportEvent& event) {
    if (std::holds_alternative<OpCompleted>(event) && left-- > 0) link.write(0, {span_of(left, left, 100)}, 1);
  };
  link.write(0, {span_of(0, 0, 1)}, 1);
  link.run_until([&] { return left <= 0 && link.side(0).unfinished() == 0 && link.side(1).notified.size() >= 301; });
  v.expect(link.side(0).completed.size() == 301, "{} completions of 301", link.side(0).completed.size());
  v.expect(link.side(1).notified.size() == 301, "{} notifies of 301", link.side(1).notified.size());
}

inline void both_directions_work_at_once(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  fill(link.memory(1, kLocal).subspan(0, kSize / 2), 8);
  for (std::int64_t k = 0; k < 20; ++k) {
    link.write(0, {span_of(k * 5'000, static_cast<std::int64_t>(kSize / 2) + k * 5'000, 5'000)}, 1);
    link.write(1, {span_of(k * 5'000, static_cast<std::int64_t>(kSize / 2) + k * 5'000, 5'000)}, 2);
  }
  link.finish_all();
  if (!w.moves_bytes()) return;
  expect_bytes(link, 0, kSize / 2, 100'000);
  v.expect(equal(link.memory(1, kLocal).subspan(0, 100'000), link.memory(0, kLocal).subspan(kSize / 2, 100'000)),
           "the way back is wrong");
}

}  // namespace faultline::contract::transport_clauses_detail
