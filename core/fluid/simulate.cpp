#include "core/fluid/simulate.h"

#include <fmt/format.h>

#include "core/base/assert.h"
#include "core/fluid/fleet.h"

namespace faultline::fluid {

using control::RecoveryAction;

Result Fleet::run() {
  std::uint64_t count = 0;
  while (!queue_.empty()) {
    const Event e = queue_.top();
    queue_.pop();
    advance(e.at);
    if ((++count & 0xfff) == 0 && options_.progress && !options_.progress(seconds(now_) / seconds(end_))) {
      end_ = now_;
      break;
    }
    switch (e.kind) {
      case kFault:
        fault(e.a, e.active);
        if (!e.active && e.b == 1) {  // its crew takes the next repair
          ++crews_free_;
          if (!repair_queue_.empty()) {
            const std::uint32_t next = repair_queue_.front();
            repair_queue_.erase(repair_queue_.begin());
            --crews_free_;
            push(now_ + d_.faults[next].length, kFault, next, 1, false);
          }
        }
        break;
      case kNotice: notice(e.a, e.b); break;
      case kDecide:
        if (e.b == instances_[e.a].generation) decide(e.a);
        break;
      case kReady:
        if (e.b == instances_[e.a].generation) ready(e.a);
        break;
      case kRetry:
        if (e.b == instances_[e.a].generation && instances_[e.a].stage == Stage::waiting) carry_out(e.a);
        break;
      case kLoad:
        rate_ = capacity_.load.at(seconds(now_));
        push(now_ + Duration{static_cast<std::int64_t>(capacity_.load.period_s / 48 * 1e9)}, kLoad, 0);
        break;
      case kBack:
        known_bad_[e.a] = 0;
        node_usable(e.a, true);
        break;
      case kShutdown: strike(e.a, true, health_.shut_down(e.a)); break;
      case kSpareBack: spares_.push_back(e.a); break;
      case kMeasuredEnd: {
        Instance& x = instances_[e.a];
        if (e.b != x.generation) break;
        account(e.a);
        for (const std::uint32_t id : x.groups) groups_[id].slowdown = 1;
        x.stage = Stage::none;
        account(e.a);
        break;
      }
    }
  }
  advance(end_);
  for (std::uint32_t i = 0; i < instances_.size(); ++i) account(i);
  result_.duration_s = seconds(end_);
  if (result_.duration_s > 0) {
    result_.capacity_mean /= result_.duration_s;
    result_.spares_mean /= result_.duration_s;
  }
  if (result_.spare_waits > 0) result_.spare_wait_mean_s = spare_wait_s_ / static_cast<double>(result_.spare_waits);
  if (result_.headroom_min > 1e299) result_.headroom_min = 0;
  // A hit request begins again: its first token comes too late for any usual TTFT limit.
  result_.good = std::max(0.0, result_.arrived - result_.hit - result_.late - result_.rejected);
  result_.good_tokens =
      std::max(0.0, (result_.arrived - result_.late - result_.rejected) * capacity_.load.output_mean - hit_tokens_);
  result_.output_tokens = (result_.arrived - result_.failed - result_.rejected) * capacity_.load.output_mean;
  result_.input_tokens = (result_.arrived - result_.failed - result_.rejected) * capacity_.load.prompt_mean;
  result_.failed += result_.rejected;
  result_.events = count;
  std::vector<FaultCost> applied;
  for (const FaultCost& c : result_.costs) {
    if (std::get<Instant>(d_.faults[c.fault].trigger) < end_) applied.push_back(c);
  }
  result_.costs = std::move(applied);
  return std::move(result_);
}

std::optional<Duration> duration_of(const experiment::ExperimentSpec& spec) {
  return spec.end ? spec.end : spec.workload.duration;
}

void check(const experiment::ExperimentSpec& spec, const experiment::Deployment& d, const MeasuredEffects* measured,
           config::Diagnostics& diagnostics) {
  if (!duration_of(spec)) diagnostics.error(spec.fleet_mark, "fluid fidelity needs 'end' or 'workload.duration'");
  if (spec.autoscaler.enabled)
    diagnostics.error(spec.fleet_mark, "fluid fidelity has no autoscaler",
                      "set autoscaler.enabled: false, or fidelity: step");
  switch (spec.recovery.policy) {
    case RecoveryAction::none:
    case RecoveryAction::restart:
    case RecoveryAction::spare_node:
    case RecoveryAction::spare_instance: break;
    default:
      if (measured == nullptr) {
        diagnostics.error(spec.fleet_mark, "fluid fidelity has no closed form for this recovery.policy",
                          "set fluid.effects: step, which measures it by step runs");
      }
  }
  std::string last;
  for (const auto& f : d.faults) {
    if (measured != nullptr && measured->contains(f.kind)) continue;
    const std::string reason = Health::refusal(d.topology, f);
    if (!reason.empty() && reason != last) diagnostics.error(f.mark, fmt::format("fault '{}' {}", f.name, reason));
    last = reason;
  }
}

Result simulate(const experiment::ExperimentSpec& spec, const experiment::Deployment& d, const Capacity& capacity,
                const Options& options) {
  FAULTLINE_ASSERT(options.duration > Duration{0}, "duration={}", options.duration.v);
  return Fleet(spec, d, capacity, options).run();
}

}  // namespace faultline::fluid
