// Clauses of the transport contract about ends: cancel, close, death of the peer, broken routes, revoked regions.
#pragma once

#include "tests/contract/transport_clauses_basic.h"

namespace faultline::contract::transport_clauses_detail {

inline void cancel_still_ends_in_one_terminal_event(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  std::vector<OpId> ops;
  for (int k = 0; k < 32; ++k) {
    ops.push_back(link.write(0, {span_of(0, 0, 50'000)}, static_cast<std::uint32_t>(k)));
    if (k % 2 == 0) link.transport(0).cancel(ops.back());
  }
  link.finish_all();
  for (const OpId op : ops) link.transport(0).cancel(op);  // too late: no effect
  link.settle();
  for (std::size_t k = 0; k < ops.size(); ++k) {
    const auto cause = link.failure(0, ops[k]);
    if (k % 2 == 1)
      v.expect(!cause, "op {} failed with {} and was not canceled", ops[k].v, cause ? name_of(*cause) : "");
    else
      v.expect(!cause || *cause == Cause::canceled, "canceled op {} failed with {}", ops[k].v,
               cause ? name_of(*cause) : "");
  }
  v.expect(!link.side(0).down && !link.side(1).down, "a cancel took the peer down");
}

inline void close_fails_the_rest_and_then_reports_down(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  for (int k = 0; k < 20; ++k) link.write(0, {span_of(0, 0, 100'000)});
  link.transport(0).close(link.side(0).peer);
  link.transport(0).close(link.side(0).peer);
  const Status late = link.post(0, {link.next_op(), link.side(0).peer, {}, {}});
  v.expect(late.cause() == Cause::peer_lost, "post after close: {}", name_of(late.cause()));
  v.expect(link.run_until([&] { return link.side(0).down.has_value(); }), "EndpointDown did not come");
  link.settle();
  v.expect(link.side(0).down == Cause::canceled, "down with {}",
           link.side(0).down ? name_of(*link.side(0).down) : "nothing");
  v.expect(link.side(0).downs == 1, "{} EndpointDown", link.side(0).downs);
  for (const OpFailed& lost : link.side(0).failed)
    v.expect(lost.cause == Cause::canceled, "op {}: {}", lost.op.v, name_of(lost.cause));
  v.expect(link.side(0).unfinished() == 0, "{} operations without an end", link.side(0).unfinished());
}

inline void the_other_side_sees_a_close(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  for (int k = 0; k < 4; ++k) link.write(1, {span_of(0, 0, 1'000)});
  link.transport(0).close(link.side(0).peer);
  v.expect(link.run_until([&] { return link.side(1).down.has_value(); }), "the other side heard nothing");
  v.expect(link.side(1).unfinished() == 0, "{} operations without an end", link.side(1).unfinished());
}

inline void a_peer_that_dies_fails_its_operations(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  for (int k = 0; k < 10; ++k) link.write(0, {span_of(0, 0, 100'000)}, 1);
  const Instant start = w.now();
  link.set_gone(1);
  w.destroy(1);
  const Duration budget = link.transport(0).limits().failure_budget + w.slack();
  const bool done = link.run_until([&] { return link.side(0).down.has_value(); }, budget + kPatience);
  v.expect(done, "EndpointDown did not come");
  v.expect(w.now() - start <= budget, "{} ms, budget {} ms", (w.now() - start).v / 1'000'000, budget.v / 1'000'000);
  v.expect(link.side(0).unfinished() == 0, "{} operations without an end", link.side(0).unfinished());
  for (const OpFailed& lost : link.side(0).failed) {
    v.expect(lost.cause == Cause::peer_lost || lost.cause == Cause::link_down || lost.cause == Cause::timeout,
             "op {}: {}", lost.op.v, name_of(lost.cause));
  }
  const Status late = link.post(0, {link.next_op(), link.side(0).peer, {}, {}});
  v.expect(late.cause() == Cause::peer_lost, "post to a dead peer: {}", name_of(late.cause()));
}

inline void expect_broken_in_time(Link& link, Instant start) {
  TransportWorld& w = link.world();
  const Duration budget = link.transport(0).limits().failure_budget + w.slack();
  const bool done = link.run_until([&] { return link.side(0).unfinished() == 0 && link.side(0).down.has_value(); },
                                   budget + kPatience);
  Verdict& v = link.verdict();
  v.expect(done, "{} operations without an end, down {}", link.side(0).unfinished(), link.side(0).down.has_value());
  v.expect(w.now() - start <= budget, "{} ms, budget {} ms", (w.now() - start).v / 1'000'000, budget.v / 1'000'000);
  for (const OpFailed& lost : link.side(0).failed) {
    v.expect(lost.cause == Cause::link_down || lost.cause == Cause::timeout || lost.cause == Cause::peer_lost,
             "op {}: {}", lost.op.v, name_of(lost.cause));
  }
}

inline void a_broken_route_fails_every_operation_within_the_budget(TransportWorld& w, Verdict& v) {
  if (!w.unbreakable().empty()) return v.skip(w.unbreakable());
  Link link(w, v);
  if (!prepare(link)) return;
  for (std::int64_t k = 0; k < 16; ++k) link.write(0, {span_of(k * 100, k * 100, 100)}, 1);
  w.break_route();
  const Instant start = w.now();
  for (std::int64_t k = 0; k < 16; ++k) link.write(0, {span_of(k * 100, 100'000 + k * 100, 100)}, 1);
  expect_broken_in_time(link, start);
}

inline void an_operation_posted_on_a_broken_route_fails_too(TransportWorld& w, Verdict& v) {
  if (!w.unbreakable().empty()) return v.skip(w.unbreakable());
  Link link(w, v);
  if (!prepare(link)) return;
  w.break_route();
  const Instant start = w.now();
  const OpId op = link.write(0, {span_of(0, 0, 1'000)}, 3);
  expect_broken_in_time(link, start);
  v.expect(!link.completed(0, op), "it completed");
  v.expect(link.side(1).notified.empty(), "its notify arrived");
  expect_untouched(link, 0, size_of_region());
}

/// Both sides give the old connection up, whatever they know of it.
inline bool close_both(Link& link) {
  for (int i : {0, 1}) link.transport(i).close(link.side(i).peer);
  return link.verdict().expect(link.run_until([&] { return link.side(0).down && link.side(1).down; }),
                               "EndpointDown did not come");
}

inline void work_again(Link& link, Verdict& v) {
  if (!link.open() || !link.import(kLocal, kRemote)) return;
  std::memset(link.memory(1, kLocal).data(), 0, kSize);
  const auto before = link.side(1).notified.size();
  const OpId op = link.write(0, {span_of(0, 0, 10'000)}, 77);
  link.finish_all();
  v.expect(link.completed(0, op), "the first operation after reopening did not complete");
  expect_bytes(link, 0, 0, 10'000);
  link.run_until([&] { return link.side(1).notified.size() > before; });
  v.expect(link.side(1).notified.size() == before + 1 && link.side(1).notified.back() == 77, "its notify did not come");
}

inline void reopening_after_close_works(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  for (int round = 0; round < 3; ++round) {
    for (int k = 0; k < 8; ++k) link.write(0, {span_of(0, 0, 100'000)}, 1);
    if (!close_both(link)) return;
    work_again(link, v);
  }
}

inline void reopening_after_a_broken_route_works(TransportWorld& w, Verdict& v) {
  if (!w.unbreakable().empty()) return v.skip(w.unbreakable());
  Link link(w, v);
  if (!prepare(link)) return;
  w.break_route();
  link.write(0, {span_of(0, 0, 1'000)});
  link.run_until([&] { return link.side(0).down.has_value(); });
  if (!close_both(link)) return;
  w.mend_route();
  work_again(link, v);
}

inline void imports_end_with_their_peer(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link) || !close_both(link) || !link.open()) return;
  const Status stale = link.post(0, {link.next_op(), link.side(0).peer, {span_of(0, 0, 8)}, {}});
  v.expect(stale.cause() == Cause::protection, "an import of the time before the close: {}", name_of(stale.cause()));
  link.settle();
  expect_untouched(link, 0, size_of_region());
}

inline void posts_before_up_are_refused(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  const EndpointId peer = link.side(0).peer;
  v.expect(bool(link.transport(0).open(peer, link.transport(1).local_address())), "cannot open");
  const Status early = link.post(0, {link.next_op(), peer, {}, {}});
  v.expect(early.cause() == Cause::peer_lost, "post before EndpointUp: {}", name_of(early.cause()));
  link.transport(0).close(peer);
  v.expect(link.run_until([&] { return link.side(0).down.has_value(); }), "EndpointDown did not come after close");
  link.settle();
  v.expect(link.side(0).ups == 0 && link.side(0).downs == 1, "{} ups, {} downs", link.side(0).ups, link.side(0).downs);
}

inline void a_region_in_use_cannot_be_deregistered(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  link.write(0, {span_of(0, 0, 100'000)});
  const Status refused = link.transport(0).deregister(kLocal);
  v.expect(refused.cause() == Cause::overload, "in flight: {}", name_of(refused.cause()));
  link.finish_all();
  const Status accepted = link.transport(0).deregister(kLocal);
  v.expect(bool(accepted), "after the terminal event: {}", name_of(accepted.cause()));
  const Status unknown = link.post(0, {link.next_op(), link.side(0).peer, {span_of(0, 0, 8)}, {}});
  v.expect(unknown.cause() == Cause::protection, "a post from it: {}", name_of(unknown.cause()));
}

inline void a_revoked_region_is_never_written(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  link.write(0, {span_of(0, 0, 64)});
  link.finish_all();
  v.expect(bool(link.transport(1).deregister(kLocal)), "the owner cannot deregister");
  std::memset(link.memory(1, kLocal).data(), 0, kSize);
  const OpId op = link.write(0, {span_of(0, 0, 100'000)}, 5);
  link.run_until([&] { return link.side(0).unfinished() == 0; });
  link.settle();
  const auto cause = link.failure(0, op);
  v.expect(cause == Cause::protection, "ended with {}", cause ? name_of(*cause) : "success or not at all");
  v.expect(link.side(1).notified.empty(), "its notify arrived");
  expect_untouched(link, 0, size_of_region());
}

inline void destruction_with_work_in_flight_is_safe(TransportWorld& w, Verdict& v) {
  Link link(w, v);
  if (!prepare(link)) return;
  for (int k = 0; k < 10; ++k) {
    link.write(0, {span_of(0, 0, 100'000)}, 1);
    link.write(1, {span_of(0, 0, 100'000)}, 1);
  }
  link.set_gone(0);
  w.destroy(0);
  std::memset(link.memory(0, kLocal).data(), 0x5a, kSize);  // the memory is the owner's again
  v.expect(link.run_until([&] { return link.side(1).down.has_value(); }), "the other side heard nothing");
  if (!w.moves_bytes()) return;
  for (const std::byte b : link.memory(0, kLocal)) {
    if (!v.expect(b == std::byte{0x5a}, "memory was written after its transport had ended")) return;
  }
}

}  // namespace faultline::contract::transport_clauses_detail
