#include "core/record/observer.h"

#include <algorithm>

#include "core/base/assert.h"
#include "core/control/specs.h"

namespace faultline::record {

Observer::Observer(record::RunRecord& run, std::size_t instances)
    : run_(run), fault_of_(instances, kNoFault), ready_(instances, true) {}

void Observer::arrived(Instant now, RequestId id, std::int32_t prompt, std::int32_t output, std::uint8_t slo_class) {
  FAULTLINE_ASSERT(id.v == run_.requests.size(), "request={}", id.v);
  record::RequestRecord& r = run_.requests.emplace_back();
  r.arrival = now;
  r.prompt_tokens = prompt;
  r.output_tokens = output;
  r.slo_class = slo_class;
  live_.push_back({.position = static_cast<std::uint32_t>(active_.size())});
  active_.push_back(id);
}

record::FaultRecord* Observer::fault(std::uint32_t instance) {
  if (instance >= fault_of_.size() || fault_of_[instance] == kNoFault) return nullptr;
  return &run_.faults[fault_of_[instance]];
}

void Observer::note(Instant now, const control::Command& command) {
  using namespace control;
  if (const auto* first = std::get_if<NoteFirstToken>(&command)) {
    record::RequestRecord& r = run_.requests[first->request.v];
    Live& l = live_[first->request.v];
    ++bin(now.ns / 1'000'000'000).output_tokens;
    if (r.end != kNever) return;  // its client is gone
    if (l.kept == 0) r.first_token = now;
    else if (l.cut != kNever) r.gap = std::max(r.gap, now - l.cut);
    l.cut = kNever;
    r.decode_group = static_cast<std::int16_t>(first->group);
    const std::uint32_t i = first->instance.v;
    if (auto* f = fault(i); f != nullptr && ready_[i] && f->phases.first_token == kNever && f->phases.ready != kNever) {
      f->phases.first_token = now;
    }
  } else if (const auto* attempt = std::get_if<NoteAttempt>(&command)) {
    record::RequestRecord& r = run_.requests[attempt->request.v];
    Live& l = live_[attempt->request.v];
    r.instance = attempt->instance;
    l.instance = attempt->instance.v;
    for (const auto& [instance, fault] : tainted_) {
      if (instance == l.instance) r.hit_by |= std::uint64_t{1} << std::min<std::uint32_t>(63, fault);
    }
    if (r.attempts < 255) ++r.attempts;
    if (attempt->attempt > 0) {  // the work of the attempt before is done again
      r.tokens_recomputed += l.lost_prefill + l.lost_output;
      if (attempt->resumed > 0) {
        if (l.kept != attempt->resumed) ++r.migrations;
        l.generated_again = std::max(0, l.kept + l.lost_output - attempt->resumed);
      } else {
        l.generated_again = std::max(l.generated_again, l.lost_output);
      }
      l.kept = attempt->resumed;
      l.last_produced = 0;
      l.again_to = l.lost_from + l.lost_prefill;
      l.lost_prefill = l.lost_output = 0;
    }
    l.cached = 0;
  } else if (const auto* ended = std::get_if<NoteRequestEnded>(&command)) {
    const Outcome outcome = ended->cause == Cause::none ? Outcome::completed
                            : ended->rejected           ? Outcome::rejected
                                                        : Outcome::failed;
    finish(now, ended->request, outcome, ended->cause, ended->delivered);
  } else if (const auto* lost = std::get_if<NoteAttemptLost>(&command)) {
    record::RequestRecord& r = run_.requests[lost->request.v];
    attempt_over(lost->request, lost->produced, lost->cause == Cause::router_lost);
    if (r.end != kNever) return;
    Live& l = live_[lost->request.v];
    l.lost_prefill += std::max(0, lost->prefilled - l.cached);
    l.lost_from = l.cached;
    if (l.cut == kNever) l.cut = now;
    const std::uint32_t i = lost->instance.v;
    if (auto* f = fault(i); f != nullptr && lost->cause != Cause::router_lost) {
      r.hit_by |= std::uint64_t{1} << std::min<std::uint32_t>(63, fault_of_[i]);
      f->phases.drain = now;
    }
  } else if (const auto* sent = std::get_if<Send>(&command)) {
    const auto* over = std::get_if<AttemptEnded>(&sent->message);
    if (over != nullptr && over->cause == Cause::none) attempt_over(over->request, over->produced, false);
  } else if (const auto* replicated = std::get_if<NoteReplicated>(&command)) {
    run_.replica_bytes += replicated->bytes.v;
  } else if (const auto* resumed = std::get_if<NoteResumed>(&command)) {
    record::RequestRecord& r = run_.requests[resumed->request.v];
    ++run_.replica_resumes;
    run_.replica_tokens_again += resumed->again;
    r.tokens_recomputed += resumed->again;
    live_[resumed->request.v].copied_again += resumed->again;
    const std::uint32_t i = resumed->instance.v;
    if (fault(i) != nullptr) r.hit_by |= std::uint64_t{1} << std::min<std::uint32_t>(63, fault_of_[i]);
  } else if (const auto* cache = std::get_if<NotePrefixCache>(&command)) {
    run_.prefix_cache.asked += cache->asked;
    run_.prefix_cache.hit += cache->hit;
    run_.prefix_cache.evicted += cache->evicted;
    run_.prefix_cache.lost += cache->lost;
    if (!cache->request.valid()) return;
    Live& l = live_[cache->request.v];
    l.cached = static_cast<std::int32_t>(cache->hit);
    // Of what a lost attempt had computed, what is cached is not computed again.
    run_.requests[cache->request.v].tokens_recomputed -= std::max(0, std::min(l.cached, l.again_to) - l.lost_from);
    l.again_to = 0;
  } else if (const auto* phase = std::get_if<NotePhase>(&command)) {
    if (!phase->instance.valid()) return;
    if (phase->phase == Phase::role_switch) ++run_.role_switches;
    const std::uint32_t i = phase->instance.v;
    if (phase->phase == Phase::replace) {
      run_.spares_taken.push_back(
          {now, phase->instance, phase->node == control::kUnknownRank ? -1 : static_cast<std::int32_t>(phase->node)});
    }
    record::FaultRecord* f = fault(i);
    if (f == nullptr) return;
    record::FaultPhases& p = f->phases;
    const auto at_first = [&](Instant& slot) {
      if (slot == kNever) slot = now;
    };
    switch (phase->phase) {
      case Phase::symptom: at_first(p.symptom); break;
      case Phase::detect:
        at_first(p.symptom);
        at_first(p.detect);
        ready_[i] = false;
        break;
      case Phase::decide:
        at_first(p.decide);
        f->recovery = std::string(enum_names(static_cast<const RecoveryAction*>(nullptr))[phase->action]);
        break;
      case Phase::drain: at_first(p.drain); break;
      case Phase::reroute:
        if (!ready_[i]) p.reroute = p.reroute == kNever ? now : std::max(p.reroute, now);
        break;
      case Phase::replace: at_first(p.replace); break;
      case Phase::fence: at_first(p.fence); break;
      case Phase::repair_state: at_first(p.repair_state); break;
      case Phase::degraded: at_first(p.degraded); break;
      case Phase::rejoin: p.rejoin = now; break;
      case Phase::restore: p.restore = now; break;
      case Phase::rebalance: break;
      case Phase::role_switch: at_first(p.replace); break;
      case Phase::ready:
        p.ready = now;  // the last one, where several instances were hit
        p.first_token = kNever;
        ready_[i] = true;
        break;
    }
  }
}

void Observer::symptom(Instant now, std::uint32_t instance) {
  if (auto* f = fault(instance); f != nullptr && f->phases.symptom == kNever) f->phases.symptom = now;
}

void Observer::attempt_over(RequestId id, std::int32_t produced, bool heard) {
  record::RequestRecord& r = run_.requests[id.v];
  Live& l = live_[id.v];
  const std::int32_t streamed = l.streamed;
  l.streamed = -1;
  if (r.end == kNever) {
    l.lost_output += produced;
    l.last_produced = streamed >= 0 ? streamed : r.first_token != kNever ? produced : 0;
  } else if (streamed < 0 && heard) {
    r.output_delivered += produced;
  } else {  // the end has counted what was streamed
    r.tokens_lost += produced - std::max(0, streamed);
  }
}

void Observer::stream_cut(RequestId id, std::int32_t produced) { live_[id.v].streamed = produced; }

void Observer::router_lost(Instant now, RequestId id) {
  if (run_.requests[id.v].end != kNever) return;
  finish(now, id, Outcome::failed, Cause::router_lost, 0);
}

void Observer::finish(Instant now, RequestId id, Outcome outcome, Cause cause, std::int32_t delivered) {
  record::RequestRecord& r = run_.requests[id.v];
  Live& l = live_[id.v];
  FAULTLINE_ASSERT(r.end == kNever, "request {} ended twice", id.v);
  r.end = now;
  r.outcome = outcome;
  r.cause = cause;
  if (outcome == Outcome::completed) {
    r.output_delivered = delivered;
    if (const std::int32_t again = l.generated_again + l.copied_again;
        again > 0 && r.first_token != kNever && delivered > 0) {
      // Tokens that had reached the client before are made again but not delivered again.
      const auto share = static_cast<double>(again) / static_cast<double>(delivered);
      const Duration span{
          static_cast<std::int64_t>(static_cast<double>((now - r.first_token).v) * std::min(1.0, share))};
      tokens(r.first_token, r.first_token + span, -std::min(again, delivered + l.copied_again), 0);
    }
  } else {
    // What the last attempt had streamed reached the client; the rest of its tokens did not.
    const bool under_way = l.streamed >= 0;  // what of its attempt comes from now on comes too late
    r.output_delivered = l.kept + (under_way ? l.streamed : l.last_produced);
    r.tokens_lost = l.lost_output + l.copied_again - (under_way ? 0 : l.last_produced);
  }
  const RequestId moved = active_.back();
  active_[l.position] = moved;
  live_[moved.v].position = l.position;
  active_.pop_back();
}

void Observer::unfinished_progress(RequestId id, std::int32_t produced) {
  record::RequestRecord& r = run_.requests[id.v];
  if (r.end == kNever && r.first_token != kNever) r.output_delivered = live_[id.v].kept + produced;
}

record::ThroughputBin& Observer::bin(std::int64_t second) {
  if (static_cast<std::size_t>(second) >= run_.throughput.size())
    run_.throughput.resize(static_cast<std::size_t>(second) + 1);
  return run_.throughput[static_cast<std::size_t>(second)];
}

void Observer::tokens(Instant from, Instant to, std::int64_t output, std::int64_t prefill) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t first = from.ns / kSecond, last = std::max(first, (to.ns - 1) / kSecond);
  const std::int64_t span = std::max<std::int64_t>(1, to.ns - from.ns);
  std::int64_t output_before = 0, prefill_before = 0;
  for (std::int64_t s = first; s <= last; ++s) {
    const double share = s == last ? 1.0 : static_cast<double>((s + 1) * kSecond - from.ns) / static_cast<double>(span);
    const auto output_until = static_cast<std::int64_t>(static_cast<double>(output) * share);
    const auto prefill_until = static_cast<std::int64_t>(static_cast<double>(prefill) * share);
    record::ThroughputBin& b = bin(s);
    b.output_tokens += output_until - output_before;
    b.prefill_tokens += prefill_until - prefill_before;
    output_before = output_until;
    prefill_before = prefill_until;
  }
}

void Observer::touch(Instant, std::uint32_t instance, std::uint32_t fault) {
  fault_of_[instance] = fault;
  auto& direct = run_.faults[fault].instances_direct;
  if (std::find(direct.begin(), direct.end(), InstanceId{instance}) == direct.end())
    direct.push_back(InstanceId{instance});
}

void Observer::taint(std::uint32_t instance, std::uint32_t fault, bool on) {
  if (on) {
    hit_all(instance, fault);
    tainted_.emplace_back(instance, fault);
  } else {
    std::erase(tainted_, std::pair{instance, fault});
  }
}

void Observer::hit_all(std::uint32_t instance, std::uint32_t fault) {
  for (const RequestId id : active_) {
    if (live_[id.v].instance == instance)
      run_.requests[id.v].hit_by |= std::uint64_t{1} << std::min<std::uint32_t>(63, fault);
  }
}

}  // namespace faultline::record
