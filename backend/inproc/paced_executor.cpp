#include "backend/inproc/paced_executor.h"

#include <algorithm>

namespace faultline::inproc {
namespace {
constexpr std::uint32_t kUnknownRank = ~0U;
}

bool PacedExecutor::shapes_fit(const Step& step) const {
  if (const auto* run = std::get_if<DecodeRun>(&step.work))
    return run->steps_max > 0 && run->loads.size() == prices_.dp_ranks;
  const auto& prefill = std::get<PrefillStep>(step.work);
  if (prefill.items.empty() || (!prefill.decode.empty() && prefill.decode.size() != prices_.dp_ranks)) return false;
  return std::all_of(prefill.items.begin(), prefill.items.end(), [this](const model::PrefillItem& item) {
    return item.rank >= 0 && static_cast<std::size_t>(item.rank) < prices_.dp_ranks && item.chunk_tokens > 0 &&
           item.context_before >= 0;
  });
}

Status PacedExecutor::submit(const Step& step) {
  if (lost_) return Cause::device_lost;
  if (!shapes_fit(step)) return Cause::protection;
  const Instant now = clock_->now();
  advance(now);
  if (queue_.size() >= kQueueMax) return Cause::overload;
  if (queue_.empty()) free_at_ = now;
  queue_.push_back({.step = step, .start = {}, .boundary = {}, .reached = {}, .steps = 0, .stop = false});
  advance(now);
  return ok();
}

Duration PacedExecutor::price(const Work& work) const {
  if (const auto* run = std::get_if<DecodeRun>(&work.step.work)) return prices_.decode(*run, work.steps);
  return prices_.prefill(std::get<PrefillStep>(work.step.work));
}

void PacedExecutor::advance(Instant now) {
  while (!queue_.empty()) {
    Work& work = queue_.front();
    if (!work.start) {
      work.start = work.reached = free_at_;
      work.boundary = *work.start + price(work);
      begin_step();
    }
    if (hung_ || work.boundary > now) return;
    if (prices_.rendezvous != nullptr && !prices_.rendezvous->ended()) return;
    work.reached = work.boundary;
    ++work.steps;
    const auto* run = std::get_if<DecodeRun>(&work.step.work);
    if (run && work.steps < run->steps_max && !work.stop) {
      work.boundary = work.boundary + price(work);
      begin_step();
      continue;
    }
    events_.push_back(StepDone{work.step.op, work.steps, work.reached - *work.start});
    free_at_ = work.reached;
    queue_.pop_front();
  }
}

void PacedExecutor::interrupt(OpId op) {
  advance(clock_->now());
  for (Work& work : queue_) {
    if (work.step.op == op) work.stop = true;
  }
}

void PacedExecutor::abort(OpId op) {
  const Instant now = clock_->now();
  advance(now);
  const auto it = std::find_if(queue_.begin(), queue_.end(), [op](const Work& work) { return work.step.op == op; });
  if (it == queue_.end()) return;
  if (it->start) free_at_ = now;
  events_.push_back(StepFailed{op, Cause::canceled, it->steps, kUnknownRank});
  queue_.erase(it);
  hung_ = hung_ && !queue_.empty();
}

void PacedExecutor::fail_device() {
  advance(clock_->now());
  lost_ = true;
  for (const Work& work : queue_)
    events_.push_back(StepFailed{work.step.op, Cause::device_lost, work.steps, kUnknownRank});
  queue_.clear();
}

void PacedExecutor::hang() {
  advance(clock_->now());
  hung_ = true;
}

Instant PacedExecutor::next_due() {
  if (!events_.empty()) return clock_->now();
  if (queue_.empty() || hung_) return kNever;
  Work ahead = queue_.front();
  if (!ahead.start) return free_at_;
  if (prices_.rendezvous != nullptr) {  // its owner hears of the meeting's end
    return ahead.boundary <= clock_->now() && !prices_.rendezvous->ended() ? kNever : ahead.boundary;
  }
  const auto* run = std::get_if<DecodeRun>(&ahead.step.work);
  while (run && ++ahead.steps < run->steps_max && !ahead.stop) ahead.boundary = ahead.boundary + price(ahead);
  return ahead.boundary;
}

std::size_t PacedExecutor::poll(std::span<ExecutorEvent> out) {
  advance(clock_->now());
  const std::size_t count = std::min(out.size(), events_.size());
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = events_.front();
    events_.pop_front();
  }
  return count;
}

}  // namespace faultline::inproc
