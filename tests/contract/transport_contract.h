// The transport contract (core/ports/transport.h): all clauses, and random operations against a reference model.
#pragma once

#include <set>

#include "tests/contract/transport_clauses_basic.h"
#include "tests/contract/transport_clauses_failure.h"

namespace faultline::contract {
namespace transport_clauses_detail {

/// Both sides post random batches, cancel some, and a model says what the memory of the peer must hold: what completed
/// is there, what failed is unknown, everything else is as it was. Slots keep operations in flight apart.
class RandomRun {
 public:
  RandomRun(TransportWorld& w, Verdict& v) : link_(w, v), random_(w.seed(), "contract/transport") {}

  void run() {
    if (!prepare(link_)) return;
    limits_ = link_.transport(0).limits();
    for (int i : {0, 1}) {
      std::memset(link_.memory(i, kLocal).data(), 0, kSize);
      fill(source(i), 100 + static_cast<std::uint64_t>(i));
      model_[static_cast<std::size_t>(i)].assign(kHalf, std::byte{0});
      link_.side(i).on_event = [this, i](const TransportEvent& event) { handle(i, event); };
    }
    const std::uint64_t total = link_.world().random_operations();
    std::uint64_t posted = 0;
    const bool done = link_.run_until(
        [&] {
          for (int tries = 0; tries < 32 && posted < total; ++tries) posted += post_one() ? 1 : 0;
          return posted == total && link_.side(0).unfinished() + link_.side(1).unfinished() == 0;
        },
        10 * kPatience);
    Verdict& v = link_.verdict();
    v.expect(done, "seed {}: {} of {} posted, {} unfinished", link_.world().seed(), posted, total,
             link_.side(0).unfinished() + link_.side(1).unfinished());
    link_.settle();
    for (int i : {0, 1}) check(i);
  }

 private:
  static constexpr std::size_t kHalf = kSize / 2;  // lower half is sent, upper half is written by the peer
  static constexpr std::size_t kSlots = 16;
  static constexpr std::size_t kSlot = kHalf / kSlots;
  struct Flight {
    std::size_t slot;
    std::vector<WriteSpan> spans;
    std::optional<std::uint32_t> notify;
  };

  std::span<std::byte> source(int i) { return link_.memory(i, kLocal).subspan(0, kHalf); }
  std::span<std::byte> target(int i) { return link_.memory(i, kLocal).subspan(kHalf, kHalf); }

  bool post_one() {
    const int from = static_cast<int>(random_.below(2));
    const auto side = static_cast<std::size_t>(from);
    const std::size_t slot = random_.below(kSlots);
    if (busy_[side].contains(slot)) return false;
    Flight flight{slot, {}, {}};
    const std::size_t count = random_.chance(0.05) ? 0 : 1 + random_.below(random_.chance(0.1) ? 40 : 4);
    std::size_t at = slot * kSlot;
    const std::size_t end = at + kSlot;
    for (std::size_t k = 0; k < count && at < end && flight.spans.size() < limits_.spans_per_batch_max; ++k) {
      const std::size_t length =
          std::min(end - at, random_.chance(0.2) ? 1 + random_.below(kSlot) : random_.below(300));
      const std::size_t offset = random_.below(kHalf - length);
      flight.spans.push_back(span_of(static_cast<std::int64_t>(offset), static_cast<std::int64_t>(kHalf + at),
                                     static_cast<std::int64_t>(length)));
      at += length + (random_.chance(0.5) ? 0 : random_.below(50));
    }
    if (random_.chance(0.5)) flight.notify = next_tag_++;
    const OpId op = link_.next_op();
    if (!link_.post(from, {op, link_.side(from).peer, flight.spans, flight.notify})) return false;  // overload
    busy_[side].insert(slot);
    flights_[side].emplace(op, flight);
    if (random_.chance(0.05)) link_.transport(from).cancel(op);
    return true;
  }

  void handle(int i, const TransportEvent& event) {
    const auto side = static_cast<std::size_t>(i);
    const auto* done = std::get_if<OpCompleted>(&event);
    const auto* lost = std::get_if<OpFailed>(&event);
    if (!done && !lost) return;
    const auto it = flights_[side].find(done ? done->op : lost->op);
    if (it == flights_[side].end()) return;
    const Flight flight = it->second;
    flights_[side].erase(it);
    busy_[side].erase(flight.slot);
    const auto slot = target(1 - i).subspan(flight.slot * kSlot, kSlot);
    auto& model = model_[1 - side];
    if (lost) {
      link_.verdict().expect(lost->cause == Cause::canceled, "seed {}: op {} failed with {}", link_.world().seed(),
                             lost->op.v, name_of(lost->cause));
      // Unknown: whatever is there now stays, because the peer is up and the operation has ended.
      std::memcpy(model.data() + flight.slot * kSlot, slot.data(), slot.size());
      if (flight.notify) maybe_[1 - side].insert(*flight.notify);
      return;
    }
    for (const WriteSpan& span : flight.spans) {
      std::memcpy(model.data() + span.remote_offset.v - static_cast<std::int64_t>(kHalf),
                  source(i).data() + span.local_offset.v, static_cast<std::size_t>(span.length.v));
    }
    if (flight.notify) sure_[1 - side].insert(*flight.notify);
    check_slot(1 - i, flight.slot);
  }

  void check_slot(int i, std::size_t slot) {
    if (!link_.world().moves_bytes()) return;
    const std::span<const std::byte> expected(model_[static_cast<std::size_t>(i)].data() + slot * kSlot, kSlot);
    link_.verdict().expect(equal(expected, target(i).subspan(slot * kSlot, kSlot)),
                           "seed {}: side {} slot {} differs from the model", link_.world().seed(), i, slot);
  }

  void check(int i) {
    const auto side = static_cast<std::size_t>(i);
    for (std::size_t slot = 0; slot < kSlots; ++slot) check_slot(i, slot);
    std::set<std::uint32_t> got;
    for (const std::uint32_t tag : link_.side(i).notified) {
      link_.verdict().expect(got.insert(tag).second, "seed {}: notify {} came twice", link_.world().seed(), tag);
      link_.verdict().expect(sure_[side].contains(tag) || maybe_[side].contains(tag),
                             "seed {}: notify {} was never posted", link_.world().seed(), tag);
    }
    for (const std::uint32_t tag : sure_[side])
      link_.verdict().expect(got.contains(tag), "seed {}: notify {} did not come", link_.world().seed(), tag);
  }

  Link link_;
  Random random_;
  TransportLimits limits_;
  std::array<std::vector<std::byte>, 2> model_;
  std::array<std::set<std::size_t>, 2> busy_;
  std::array<std::map<OpId, Flight>, 2> flights_;
  std::array<std::set<std::uint32_t>, 2> sure_;
  std::array<std::set<std::uint32_t>, 2> maybe_;
  std::uint32_t next_tag_ = 1;
};

inline void random_operations_match_a_reference_model(TransportWorld& w, Verdict& v) { RandomRun(w, v).run(); }

}  // namespace transport_clauses_detail

inline const std::vector<Clause<TransportWorld>>& transport_clauses() {
  using namespace transport_clauses_detail;
#define FAULTLINE_CLAUSE(name) \
  { #name, name }
  static const std::vector<Clause<TransportWorld>> clauses{
      FAULTLINE_CLAUSE(both_sides_come_up_once),
      FAULTLINE_CLAUSE(bytes_arrive_at_the_right_place),
      FAULTLINE_CLAUSE(a_completion_reports_the_sum_of_its_spans),
      FAULTLINE_CLAUSE(a_large_batch_arrives_whole),
      FAULTLINE_CLAUSE(source_memory_may_change_after_completion),
      FAULTLINE_CLAUSE(a_batch_is_visible_before_its_notify),
      FAULTLINE_CLAUSE(a_notify_arrives_once),
      FAULTLINE_CLAUSE(an_empty_batch_completes),
      FAULTLINE_CLAUSE(a_span_out_of_range_is_refused_and_writes_nothing),
      FAULTLINE_CLAUSE(unknown_ids_are_refused),
      FAULTLINE_CLAUSE(ids_in_use_are_refused),
      FAULTLINE_CLAUSE(malformed_addresses_and_blobs_are_refused),
      FAULTLINE_CLAUSE(limits_are_honoured_and_one_more_is_refused),
      FAULTLINE_CLAUSE(a_short_poll_buffer_loses_nothing),
      FAULTLINE_CLAUSE(posting_while_handling_an_event_is_safe),
      FAULTLINE_CLAUSE(both_directions_work_at_once),
      FAULTLINE_CLAUSE(cancel_still_ends_in_one_terminal_event),
      FAULTLINE_CLAUSE(close_fails_the_rest_and_then_reports_down),
      FAULTLINE_CLAUSE(the_other_side_sees_a_close),
      FAULTLINE_CLAUSE(a_peer_that_dies_fails_its_operations),
      FAULTLINE_CLAUSE(a_broken_route_fails_every_operation_within_the_budget),
      FAULTLINE_CLAUSE(an_operation_posted_on_a_broken_route_fails_too),
      FAULTLINE_CLAUSE(reopening_after_close_works),
      FAULTLINE_CLAUSE(reopening_after_a_broken_route_works),
      FAULTLINE_CLAUSE(imports_end_with_their_peer),
      FAULTLINE_CLAUSE(posts_before_up_are_refused),
      FAULTLINE_CLAUSE(a_region_in_use_cannot_be_deregistered),
      FAULTLINE_CLAUSE(a_revoked_region_is_never_written),
      FAULTLINE_CLAUSE(destruction_with_work_in_flight_is_safe),
      FAULTLINE_CLAUSE(random_operations_match_a_reference_model),
  };
#undef FAULTLINE_CLAUSE
  return clauses;
}

}  // namespace faultline::contract
