// Executor in simulated time: the port that a live worker implements with kernels, answered by the group executor that
// the simulator's world uses. The owner moves the clock; a decode run of any length is one jump.
#pragma once

#include <algorithm>
#include <deque>

#include "core/ports/clock.h"
#include "core/ports/executor.h"
#include "sim/executor/group_executor.h"

namespace faultline::sim {

class SimExecutor final : public Executor {
 public:
  /// References must outlive it.
  SimExecutor(const Clock& clock, const model::StepPricer& pricer)
      : clock_(&clock), ranks_(static_cast<std::size_t>(pricer.ranks())), exec_(pricer) {}

  Status submit(const Step& step) override {
    if (lost_) return Cause::device_lost;
    if (!fits(step)) return Cause::protection;
    advance();
    if (queue_.size() + (exec_.busy() ? 1 : 0) >= kQueueMax) return Cause::overload;
    if (!exec_.busy()) free_at_ = clock_->now();
    queue_.push_back({step, false});
    start_next();
    return ok();
  }
  void interrupt(OpId op) override {
    advance();
    exec_.interrupt(clock_->now(), op);
    for (Queued& q : queue_) q.stop |= q.step.op == op;  // stops after its first step
  }
  void abort(OpId op) override {
    advance();
    if (exec_.busy() && exec_.op() == op) {
      end_running(Cause::canceled);
      free_at_ = clock_->now();
      start_next();
      return;
    }
    const auto it = std::find_if(queue_.begin(), queue_.end(), [op](const Queued& q) { return q.step.op == op; });
    if (it == queue_.end()) return;
    events_.push_back(StepFailed{op, Cause::canceled, 0, ~0U});
    queue_.erase(it);
  }
  std::size_t poll(std::span<ExecutorEvent> out) override {
    advance();
    const std::size_t count = std::min(out.size(), events_.size());
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = events_.front();
      events_.pop_front();
    }
    return count;
  }

  /// What was accepted fails with device_lost now, what comes later is refused.
  void fail_device() {
    advance();
    lost_ = true;
    if (exec_.busy()) end_running(Cause::device_lost);
    for (const Queued& q : queue_) events_.push_back(StepFailed{q.step.op, Cause::device_lost, 0, ~0U});
    queue_.clear();
  }

 private:
  struct Queued {
    Step step;
    bool stop = false;
  };
  static constexpr std::size_t kQueueMax = 2;  // one runs, one waits

  bool fits(const Step& step) const {
    if (const auto* run = std::get_if<DecodeRun>(&step.work)) return run->steps_max > 0 && run->loads.size() == ranks_;
    const auto& prefill = std::get<PrefillStep>(step.work);
    if (prefill.items.empty() || (!prefill.decode.empty() && prefill.decode.size() != ranks_)) return false;
    return std::all_of(prefill.items.begin(), prefill.items.end(), [this](const model::PrefillItem& item) {
      return item.rank >= 0 && static_cast<std::size_t>(item.rank) < ranks_ && item.chunk_tokens > 0 &&
             item.context_before >= 0;
    });
  }
  void start_next() {
    if (exec_.busy() || queue_.empty()) return;
    const Queued q = std::move(queue_.front());
    queue_.pop_front();
    if (const auto* run = std::get_if<DecodeRun>(&q.step.work)) {
      exec_.start_decode(free_at_, q.step.op, run->loads, q.stop ? 1 : run->steps_max);
    } else {
      const auto& prefill = std::get<PrefillStep>(q.step.work);
      exec_.start_prefill(free_at_, q.step.op, prefill.items, prefill.decode);
    }
  }
  void advance() {
    while (exec_.busy() && exec_.end() <= clock_->now()) {
      const Instant end = exec_.end();
      const GroupExecutor::Ended ended = exec_.finish(end);
      events_.push_back(StepDone{ended.op, ended.steps, end - ended.began});
      free_at_ = end;
      start_next();
    }
  }
  void end_running(Cause cause) {
    const GroupExecutor::Ended ended = exec_.finish(clock_->now());
    events_.push_back(StepFailed{ended.op, cause, ended.steps, ~0U});
  }

  const Clock* clock_;
  std::size_t ranks_;
  GroupExecutor exec_;
  std::deque<Queued> queue_;
  std::deque<ExecutorEvent> events_;
  Instant free_at_{0};
  bool lost_ = false;
};

}  // namespace faultline::sim
