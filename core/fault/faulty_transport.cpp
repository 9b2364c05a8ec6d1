#include "core/fault/faulty_transport.h"

#include <algorithm>
#include <array>

#include "core/base/random.h"

namespace faultline::fault {
namespace {

/// The peer of an event that belongs to one without naming an operation.
const EndpointId* peer_of(const TransportEvent& event) {
  if (const auto* e = std::get_if<Notified>(&event)) return &e->from;
  if (const auto* e = std::get_if<EndpointDown>(&event)) return &e->peer;
  if (const auto* e = std::get_if<EndpointUp>(&event)) return &e->peer;
  return nullptr;
}

const OpId* op_of(const TransportEvent& event) {
  if (const auto* e = std::get_if<OpCompleted>(&event)) return &e->op;
  if (const auto* e = std::get_if<OpFailed>(&event)) return &e->op;
  return nullptr;
}

}  // namespace

void describe(config::Fields& f, TransportFaults& s) {
  f.field("seed", s.seed);
  f.field("fail_early_ratio", s.fail_early_ratio, config::kRatio);
  f.field("fail_late_ratio", s.fail_late_ratio, config::kRatio);
  f.field("lose_notify_ratio", s.lose_notify_ratio, config::kRatio);
  f.field("stall_ratio", s.stall_ratio, config::kRatio);
  f.field("extra_latency", s.extra_latency, config::kNotNegative);
  f.field("rate_limit", s.rate_limit, config::kNotNegative);
}

FaultyTransport::Fate FaultyTransport::fate_of(OpId op) const {
  double u = Random(faults_.seed, "fault/transport", op.v).uniform();
  const std::array<std::pair<double, Fate>, 4> fates{{{faults_.fail_early_ratio, Fate::fail_early},
                                                      {faults_.fail_late_ratio, Fate::fail_late},
                                                      {faults_.lose_notify_ratio, Fate::lose_notify},
                                                      {faults_.stall_ratio, Fate::stall}}};
  for (const auto& [ratio, fate] : fates) {
    if (u < ratio) return fate;
    u -= ratio;
  }
  return Fate::none;
}

Status FaultyTransport::post(const WriteBatch& batch) {
  // Operations whose end is held back here still count: the inner transport has forgotten them.
  const auto owed = owed_.find(batch.peer);
  if (owed != owed_.end() && owed->second >= inner_->limits().ops_in_flight_max) return Cause::overload;
  const Fate fate = fate_of(batch.op);
  Status status = ok();
  if (fate == Fate::lose_notify && batch.notify) {
    WriteBatch quiet = batch;
    quiet.notify.reset();
    status = inner_->post(quiet);
  } else {
    status = inner_->post(batch);
  }
  if (!status) return status;
  const Instant now = clock_->now();
  Operation operation{.peer = batch.peer, .fate = fate, .posted = now, .not_before = now, .locals = {}};
  std::int64_t bytes = 0;
  for (const WriteSpan& span : batch.spans) {
    operation.locals.push_back(span.local);
    bytes += span.length.v;
  }
  if (faults_.rate_limit.v > 0) {
    Instant& busy = busy_until_[batch.peer];
    busy = std::max(busy, now) +
           duration_from_seconds(static_cast<double>(bytes) / static_cast<double>(faults_.rate_limit.v));
    operation.not_before = busy;
  }
  operations_.emplace(batch.op, std::move(operation));
  ++owed_[batch.peer];
  if (fate != Fate::none) ++injected_;
  if (fate == Fate::fail_early) inner_->cancel(batch.op);
  return ok();
}

void FaultyTransport::take(const TransportEvent& event, Instant now) {
  if (std::holds_alternative<EndpointDown>(event)) {
    release_peer(std::get<EndpointDown>(event).peer, false);
    ready_.push_back(event);
    return;
  }
  if (std::holds_alternative<Notified>(event)) {
    hold(now + faults_.extra_latency, event);
    return;
  }
  const OpId* op = op_of(event);
  if (!op) {
    ready_.push_back(event);
    return;
  }
  const auto it = operations_.find(*op);
  if (it == operations_.end()) return;  // answered already: canceled while its end was held back
  const Operation& operation = it->second;
  const Instant normal = std::max(now, operation.not_before) + faults_.extra_latency;
  const bool failed_itself = std::holds_alternative<OpFailed>(event) && operation.fate != Fate::fail_early;
  switch (failed_itself ? Fate::none : operation.fate) {
    case Fate::none: hold(std::holds_alternative<OpCompleted>(event) ? normal : now, event); return;
    case Fate::fail_early: hold(now, OpFailed{*op, Cause::link_down}); return;
    case Fate::fail_late: hold(normal, OpFailed{*op, Cause::link_down}); return;
    case Fate::lose_notify: hold(normal, OpFailed{*op, Cause::timeout}); return;
    case Fate::stall:
      hold(std::max(now, operation.posted + inner_->limits().failure_budget), OpFailed{*op, Cause::timeout});
      return;
  }
}

void FaultyTransport::hold(Instant until, const TransportEvent& event) {
  held_.emplace(std::make_pair(until, ++sequence_), event);
}

void FaultyTransport::answer(const TransportEvent& event) {
  if (const OpId* op = op_of(event)) {
    const auto it = operations_.find(*op);
    if (it == operations_.end()) return;
    if (--owed_.at(it->second.peer) == 0) owed_.erase(it->second.peer);
    operations_.erase(it);
  }
  ready_.push_back(event);
}

void FaultyTransport::release_peer(EndpointId peer, bool canceled) {
  for (auto it = held_.begin(); it != held_.end();) {
    const OpId* op = op_of(it->second);
    const EndpointId* named = peer_of(it->second);
    const auto operation = op ? operations_.find(*op) : operations_.end();
    const bool mine = named ? *named == peer : operation != operations_.end() && operation->second.peer == peer;
    if (!mine) {
      ++it;
      continue;
    }
    const TransportEvent event = canceled && op ? TransportEvent{OpFailed{*op, Cause::canceled}} : it->second;
    it = held_.erase(it);
    answer(event);
  }
  busy_until_.erase(peer);
}

void FaultyTransport::close(EndpointId peer) {
  inner_->close(peer);
  for (auto& [op, operation] : operations_) {
    if (operation.peer == peer) operation.fate = Fate::none;  // the close decides how they end
  }
  release_peer(peer, true);
}

Status FaultyTransport::deregister(RegionId region) {
  for (const auto& [op, operation] : operations_) {
    if (std::find(operation.locals.begin(), operation.locals.end(), region) != operation.locals.end())
      return Cause::overload;
  }
  return inner_->deregister(region);
}

void FaultyTransport::cancel(OpId op) {
  const auto held = std::find_if(held_.begin(), held_.end(), [op](const auto& entry) {
    const OpId* other = op_of(entry.second);
    return other && *other == op;
  });
  if (held == held_.end()) {
    inner_->cancel(op);
    return;
  }
  held_.erase(held);
  answer(OpFailed{op, Cause::canceled});
}

std::size_t FaultyTransport::poll(std::span<TransportEvent> out) {
  const Instant now = clock_->now();
  std::array<TransportEvent, 64> batch{};
  for (;;) {
    const std::size_t count = inner_->poll(batch);
    for (std::size_t i = 0; i < count; ++i) take(batch[i], now);
    if (count < batch.size()) break;
  }
  while (!held_.empty() && held_.begin()->first.first <= now) {
    const TransportEvent event = held_.begin()->second;
    held_.erase(held_.begin());
    answer(event);
  }
  const std::size_t count = std::min(out.size(), ready_.size());
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = ready_.front();
    ready_.pop_front();
  }
  return count;
}

}  // namespace faultline::fault
