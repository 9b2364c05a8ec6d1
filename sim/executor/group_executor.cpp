#include "sim/executor/group_executor.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::sim {
namespace {
constexpr int kFractionBits = model::FixedTime::kFractionBits;
constexpr std::int64_t kFractionMask = (std::int64_t{1} << kFractionBits) - 1;
}  // namespace

void GroupExecutor::begin(Instant now, OpId op, std::vector<model::RankLoad> loads, std::int64_t steps_max) {
  FAULTLINE_ASSERT(!busy(), "op={} running={}", op.v, op_.v);
  op_ = op;
  loads_ = std::move(loads);
  sequences_ = 0;
  for (const auto& l : loads_) sequences_ += l.sequences;
  began_ = base_ = now;
  base_steps_ = 0;
  steps_max_ = steps_max;
  pass_left_ = 1;
  if (stalled_) stalled_at_ = now;  // what the stall took before this op began is not its loss
  price();
  set_end();
}

void GroupExecutor::start_prefill(Instant now, OpId op, std::vector<model::PrefillItem> items,
                                  std::vector<model::RankLoad> loads) {
  decode_ = false;
  items_ = std::move(items);
  begin(now, op, std::move(loads), 1);
}

void GroupExecutor::start_decode(Instant now, OpId op, std::vector<model::RankLoad> loads, std::int64_t steps_max) {
  FAULTLINE_ASSERT(steps_max > 0, "op={} steps={}", op.v, steps_max);
  decode_ = true;
  items_.clear();
  begin(now, op, std::move(loads), steps_max);
}

void GroupExecutor::price() {
  segments_.clear();
  if (decode_) {
    pricer_->decode_run(loads_, environment(), steps_max_ - base_steps_, segments_);
  } else {
    segments_.push_back({0, pricer_->step(items_, loads_, environment()), {}});
  }
  sum_segments();
}

void GroupExecutor::sum_segments() {
  sums_.assign(1, 0);
  for (std::size_t i = 1; i < segments_.size(); ++i) {
    const auto& s = segments_[i - 1];
    const std::int64_t n = segments_[i].first_step - s.first_step;
    sums_.push_back(sums_.back() + Wide{s.first.v} * n + Wide{s.slope.v} * (n * (n - 1) / 2));
  }
}

GroupExecutor::Wide GroupExecutor::elapsed(std::int64_t k) const {
  std::size_t i = segments_.size() - 1;
  while (i > 0 && segments_[i].first_step > k) --i;
  const std::int64_t n = k - segments_[i].first_step;
  return sums_[i] + Wide{segments_[i].first.v} * n + Wide{segments_[i].slope.v} * (n * (n - 1) / 2);
}

Instant GroupExecutor::instant_of(Wide since_base) const {
  const Wide ns = (since_base + fraction_) >> kFractionBits;
  return ns >= Wide{kNever.ns} - base_.ns ? kNever : base_ + Duration{static_cast<std::int64_t>(ns)};
}

void GroupExecutor::set_end() { end_ = instant_of(elapsed(steps_max_ - base_steps_)); }

/// Largest k whose boundary is at or before `now`.
std::int64_t GroupExecutor::steps_since_base(Instant now) const {
  std::int64_t low = 0, high = steps_max_ - base_steps_;
  if (now >= instant_of(elapsed(high))) return high;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    if (instant_of(elapsed(middle)) <= now) low = middle;
    else high = middle;
  }
  return low;
}

std::int64_t GroupExecutor::steps_by(Instant now) const {
  if (!busy() || !decode_) return 0;
  return base_steps_ + steps_since_base(stalled_ ? stalled_at_ : now);
}

void GroupExecutor::interrupt(Instant now, OpId op) {
  if (op != op_ || !decode_) return;
  const std::int64_t next = std::min(steps_since_base(stalled_ ? stalled_at_ : now) + 1, steps_max_ - base_steps_);
  steps_max_ = base_steps_ + next;
  set_end();
}

GroupExecutor::Ended GroupExecutor::finish(Instant now) {
  Ended ended{.op = op_, .began = began_};
  const bool complete = !stalled_ && now >= end_;
  if (decode_) {
    const std::int64_t k = complete ? steps_max_ - base_steps_ : steps_since_base(stalled_ ? stalled_at_ : now);
    ended.steps = base_steps_ + k;
    ended.output_tokens = ended.steps * sequences_;
    // What the clock's whole nanoseconds cut off is owed to the next run, so that runs add up exactly.
    fraction_ = static_cast<std::int64_t>((elapsed(k) + fraction_) & kFractionMask);
  } else if (complete) {
    ended.steps = 1;
    ended.output_tokens = sequences_;
    for (const auto& item : items_) ended.prefill_tokens += item.chunk_tokens;
    fraction_ = static_cast<std::int64_t>((elapsed(1) + fraction_) & kFractionMask);
  }
  steps_total_ += static_cast<std::uint64_t>(ended.steps);
  if (samples_ && ended.steps > 0) samples_->add(items_, loads_, (now - began_).v);
  op_ = OpId{};
  stalled_ = false;
  end_ = kNever;
  return ended;
}

void GroupExecutor::stall(Instant now) {
  if (stalled_) return;
  stalled_ = true;
  stalled_at_ = now;
}

void GroupExecutor::resume(Instant now) {
  if (!stalled_) return;
  stalled_ = false;
  if (!busy()) return;
  const Duration lost = now - stalled_at_;  // the step that was cut goes on where it stood
  base_ = base_ + lost;
  set_end();
}

void GroupExecutor::price_rest_of_run(Instant now) {
  const std::int64_t k = steps_since_base(now);
  if (base_steps_ + k >= steps_max_) return;  // has just ended
  const Wide passed = elapsed(k), under_way = elapsed(k + 1) - passed;
  base_ = instant_of(passed);
  fraction_ = static_cast<std::int64_t>((passed + fraction_) & kFractionMask);
  base_steps_ += k;
  for (auto& l : loads_) l.context_tokens += k * l.sequences;
  segments_.clear();
  if (const std::int64_t rest = steps_max_ - base_steps_ - 1; rest > 0) {
    std::vector<model::RankLoad> after = loads_;
    for (auto& l : after) l.context_tokens += l.sequences;
    pricer_->decode_run(after, environment(), rest, segments_);
    for (auto& s : segments_) ++s.first_step;
  }
  segments_.insert(segments_.begin(), {0, {static_cast<std::int64_t>(under_way)}, {}});
  sum_segments();
}

void GroupExecutor::price_rest_of_pass(Instant now) {
  const std::int64_t whole = segments_.front().first.v;
  const double done =
      whole <= 0 ? 1
                 : std::clamp(static_cast<double>((now - base_).v) * (kFractionMask + 1) / static_cast<double>(whole),
                              0.0, 1.0);
  pass_left_ *= 1 - done;
  base_ = now;
  segments_.front().first.v =
      static_cast<std::int64_t>(static_cast<double>(pricer_->step(items_, loads_, environment()).v) * pass_left_);
}

void GroupExecutor::set_environment(Instant now, std::vector<double> rank_slowdown, double rdma_factor,
                                    double xgmi_factor) {
  if (rank_slowdown == rank_slowdown_ && rdma_factor == rdma_factor_ && xgmi_factor == xgmi_factor_) return;
  rank_slowdown_ = std::move(rank_slowdown);
  rdma_factor_ = rdma_factor;
  xgmi_factor_ = xgmi_factor;
  if (!busy()) return;
  const Instant at = stalled_ ? stalled_at_ : now;
  if (decode_) price_rest_of_run(at);
  else price_rest_of_pass(at);
  set_end();
}

void GroupExecutor::set_pricer(Instant now, const model::StepPricer& pricer) {
  if (&pricer == pricer_) return;
  pricer_ = &pricer;
  if (!busy()) return;
  const Instant at = stalled_ ? stalled_at_ : now;
  if (decode_) price_rest_of_run(at);
  else price_rest_of_pass(at);
  set_end();
}

double GroupExecutor::slowdown(double shared_rdma) const {
  if (!busy() || (rank_slowdown_.empty() && rdma_factor_ == shared_rdma && xgmi_factor_ == 1)) return 1;
  const auto now = pricer_->step(items_, loads_, environment());
  model::StepEnvironment whole;
  whole.rdma_capacity_factor = shared_rdma;
  const auto healthy = pricer_->step(items_, loads_, whole);
  return healthy.v > 0 ? std::max(1.0, static_cast<double>(now.v) / static_cast<double>(healthy.v)) : 1;
}

double GroupExecutor::exchange_rate() const {
  if (!busy() || stalled_ || segments_.empty() || segments_.front().first.v <= 0) return 0;
  std::int64_t tokens = sequences_;
  for (const auto& item : items_) tokens += item.chunk_tokens;
  const double step_seconds =
      static_cast<double>(segments_.front().first.v) / (static_cast<double>(kFractionMask + 1) * 1e9);
  return static_cast<double>(pricer_->ep_rdma_bytes_per_step(tokens).v) / step_seconds;
}

}  // namespace faultline::sim
