// The work of one group of ranks in simulated time. A decode run of many steps is one closed-form jump: its step times
// are affine pieces in 2^-16 ns (core/model/pricer.h), summed exactly, so that one jump over k steps ends at the same
// nanosecond as k single steps. Interrupts, slow-downs and stalls cut a jump at a step boundary.
//
// Pure bookkeeping: the owner tells the time, asks when the next thing happens, and hears what ended.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/base/ids.h"
#include "core/base/quantity.h"
#include "core/model/load.h"
#include "core/model/pricer.h"
#include "core/model/step_samples.h"

namespace faultline::sim {

class GroupExecutor {
 public:
  explicit GroupExecutor(const model::StepPricer& pricer) : pricer_(&pricer) {}

  /// Starts a pass over prompt chunks, with (loads not empty) or without a decode step. Precondition: idle.
  void start_prefill(Instant now, OpId op, std::vector<model::PrefillItem> items, std::vector<model::RankLoad> loads);
  /// Starts up to steps_max decode steps. Precondition: idle, at least one sequence.
  void start_decode(Instant now, OpId op, std::vector<model::RankLoad> loads, std::int64_t steps_max);
  /// The decode run `op` ends at its next boundary. Ignored for other ops and for prefill.
  void interrupt(Instant now, OpId op);

  bool busy() const { return op_.valid(); }
  OpId op() const { return op_; }
  /// When the running op ends; kNever while idle or stalled.
  Instant end() const { return stalled_ || !busy() ? kNever : end_; }
  Instant began() const { return began_; }

  /// Decode boundaries that the running op has passed by `now` (0 for a prefill).
  std::int64_t steps_by(Instant now) const;
  struct Ended {
    OpId op;
    std::int64_t steps = 0;  // decode steps; 1 for a prefill pass
    std::int64_t output_tokens = 0, prefill_tokens = 0;
    Instant began;
  };
  /// Takes the op away: at end() as finished, before it with the boundaries it reached (a prefill then has done
  /// nothing).
  Ended finish(Instant now);

  /// Nothing advances from now on, until resume(): a rank, or the way to one, does not answer.
  void stall(Instant now);
  void resume(Instant now);
  bool stalled() const { return stalled_; }

  /// Prices from the next boundary on. rank_slowdown: [dp], 1 = healthy, or empty.
  void set_environment(Instant now, std::vector<double> rank_slowdown, double rdma_factor, double xgmi_factor);
  /// Other prices from the next boundary on (the group's width or its experts' placement changed). `pricer` outlives
  /// it.
  void set_pricer(Instant now, const model::StepPricer& pricer);
  /// Duration of a decode step of the present loads in this environment over its duration where nothing fails (with
  /// `shared_rdma` of the NICs left by others); at least 1, 1 when idle.
  double slowdown(double shared_rdma = 1) const;
  /// Every op that ends from now on is counted there. `samples` outlives it.
  void count_in(model::StepSamples& samples) { samples_ = &samples; }

  /// Bytes per second that one GPU of the group sends out of its node for the running op's exchange; 0 when idle,
  /// stalled or inside one node.
  double exchange_rate() const;

  const std::vector<model::RankLoad>& loads() const { return loads_; }
  std::int64_t sequences() const { return sequences_; }
  bool decoding() const { return decode_; }
  std::uint64_t steps_total() const { return steps_total_; }

 private:
  model::StepEnvironment environment() const { return {rank_slowdown_, rdma_factor_, xgmi_factor_}; }
  /// Time of the first k steps of the present pricing, 2^-16 ns.
  /// Wide: a run of a million steps exceeds 64 bits of 2^-16 ns.
  __extension__ using Wide = __int128;
  Wide elapsed(std::int64_t k) const;
  /// kNever where it is beyond the time axis.
  Instant instant_of(Wide since_base) const;
  std::int64_t steps_since_base(Instant now) const;
  void price();
  void set_end();
  /// What loads and length of the op are at its start.
  void begin(Instant now, OpId op, std::vector<model::RankLoad> loads, std::int64_t steps_max);
  /// The step under way at `now` keeps its price, those after it get the present environment's.
  void price_rest_of_run(Instant now);
  void price_rest_of_pass(Instant now);
  void sum_segments();

  const model::StepPricer* pricer_;
  OpId op_;
  bool decode_ = false;
  std::vector<model::PrefillItem> items_;
  std::vector<model::RankLoad> loads_;  // at the base
  std::int64_t sequences_ = 0;
  Instant began_{0};
  // Pricing: `base_steps_` boundaries were passed at base_; segments_ price what follows.
  Instant base_{0};
  std::int64_t fraction_ = 0;  // of a nanosecond at base_, 2^-16 ns
  std::int64_t base_steps_ = 0, steps_max_ = 0;
  std::vector<model::DecodeSegment> segments_;
  std::vector<Wide> sums_;  // elapsed at the start of each segment
  double pass_left_ = 1;    // prefill: share of the pass that was left at base_
  Instant end_ = kNever;
  bool stalled_ = false;
  Instant stalled_at_{0};
  std::vector<double> rank_slowdown_;
  double rdma_factor_ = 1, xgmi_factor_ = 1;
  std::uint64_t steps_total_ = 0;
  model::StepSamples* samples_ = nullptr;
};

}  // namespace faultline::sim
