// What every Executor promises (core/ports/executor.h), one function a clause.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <vector>

#include "core/ports/executor.h"
#include "tests/contract/verdict.h"

namespace faultline::contract {

class ExecutorWorld {
 public:
  virtual ~ExecutorWorld() = default;
  virtual Executor& executor() = 0;
  /// Work that fits the executor's shapes. A decode step takes at least a millisecond, so that an interrupt can hit a
  /// run.
  virtual PrefillStep prefill() = 0;
  virtual DecodeRun decode(std::int64_t steps_max) = 0;
  /// Work that does not fit.
  virtual std::vector<Step> misshapen(OpId op) = 0;
  /// The device is gone for good.
  virtual void fail_device() = 0;
  virtual bool run_until(const std::function<bool()>& done, Duration budget) = 0;
  virtual Instant now() = 0;
};

/// Work for an executor of two data-parallel ranks.
class TwoRankExecutorWorld : public ExecutorWorld {
 public:
  PrefillStep prefill() override {
    return {.items = {{.rank = 0, .chunk_tokens = 512, .context_before = 0}}, .decode = {}};
  }
  DecodeRun decode(std::int64_t steps_max) override {
    return {.loads = std::vector<model::RankLoad>(2, {.sequences = 4, .context_tokens = 400}), .steps_max = steps_max};
  }
  std::vector<Step> misshapen(OpId op) override {
    DecodeRun narrow = decode(1);
    narrow.loads.pop_back();
    PrefillStep stranger = prefill();
    stranger.items[0].rank = 2;
    return {{op, decode(0)}, {op, narrow}, {op, PrefillStep{}}, {op, stranger}};
  }
};

namespace executor_clauses_detail {

inline constexpr Duration kWait{30'000'000'000};
inline constexpr std::int64_t kMany = 1'000'000;  // steps of a run that only an interrupt or a failure ends

class Bench {
 public:
  Bench(ExecutorWorld& world, Verdict& verdict) : world_(&world), verdict_(&verdict) {}

  OpId submit(std::variant<PrefillStep, DecodeRun> work) {
    const OpId op{next_++};
    const Status status = world_->executor().submit({op, std::move(work)});
    verdict_->expect(bool(status), "op {} refused: {}", op.v, name_of(status.cause()));
    if (status) open_[op] = true;
    return op;
  }
  Status try_submit(std::variant<PrefillStep, DecodeRun> work) {
    const OpId op{next_++};
    const Status status = world_->executor().submit({op, std::move(work)});
    if (status) open_[op] = true;
    return status;
  }
  OpId next_op() { return OpId{next_++}; }
  void set_poll_size(std::size_t size) { poll_size_ = size; }
  bool run_until(const std::function<bool()>& done, Duration budget = kWait) {
    return world_->run_until([&] { return collect(), done(); }, budget);
  }
  bool finish_all() {
    return verdict_->expect(run_until([this] { return unfinished() == 0; }), "{} steps have no terminal event",
                            unfinished());
  }
  void pass(Duration time) {
    const Instant end = world_->now() + time;
    run_until([&] { return world_->now() >= end; });
  }
  std::size_t unfinished() const {
    std::size_t count = 0;
    for (const auto& [op, open] : open_) count += open ? 1 : 0;
    return count;
  }
  const StepDone* done(OpId op) const { return done_.contains(op) ? &done_.at(op) : nullptr; }
  const StepFailed* failed(OpId op) const { return failed_.contains(op) ? &failed_.at(op) : nullptr; }
  const std::vector<OpId>& order() const { return order_; }

 private:
  void collect() {
    std::array<ExecutorEvent, 8> out{};
    const std::span<ExecutorEvent> room(out.data(), poll_size_);
    const std::size_t count = world_->executor().poll(room);
    if (!verdict_->expect(count <= room.size(), "poll wrote {} events into {}", count, room.size())) return;
    for (std::size_t k = 0; k < count; ++k) {
      const auto* ended = std::get_if<StepDone>(&out[k]);
      const auto* lost = std::get_if<StepFailed>(&out[k]);
      const OpId op = ended ? ended->op : lost->op;
      const auto it = open_.find(op);
      if (!verdict_->expect(it != open_.end(), "terminal event of op {}, which was never accepted", op.v)) continue;
      verdict_->expect(it->second, "second terminal event of op {}", op.v);
      it->second = false;
      order_.push_back(op);
      if (ended) done_[op] = *ended;
      else failed_[op] = *lost;
    }
  }

  ExecutorWorld* world_;
  Verdict* verdict_;
  std::map<OpId, bool> open_;
  std::map<OpId, StepDone> done_;
  std::map<OpId, StepFailed> failed_;
  std::vector<OpId> order_;
  std::size_t poll_size_ = 8;
  std::uint64_t next_ = 1;
};

inline void a_prefill_step_is_done_once(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  const Instant start = w.now();
  const OpId op = bench.submit(w.prefill());
  bench.finish_all();
  const StepDone* done = bench.done(op);
  if (!v.expect(done, "it did not complete")) return;
  v.expect(done->steps == 1, "{} steps", done->steps);
  v.expect(done->busy.v > 0 && done->busy <= w.now() - start, "busy {} ns of {} ns", done->busy.v, (w.now() - start).v);
}

inline void a_decode_run_does_all_its_steps(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  const OpId op = bench.submit(w.decode(7));
  bench.finish_all();
  v.expect(bench.done(op) && bench.done(op)->steps == 7, "{} steps of 7", bench.done(op) ? bench.done(op)->steps : -1);
}

inline void steps_run_one_after_another_in_order(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  std::vector<OpId> ops;
  Duration busy{};
  const Instant start = w.now();
  while (ops.size() < 10) {
    if (bench.unfinished() < 2)
      ops.push_back(ops.size() % 2 == 0 ? bench.submit(w.prefill()) : bench.submit(w.decode(3)));
    else bench.run_until([&] { return bench.unfinished() < 2; });
  }
  bench.finish_all();
  v.expect(bench.order() == ops, "they ended in another order");
  for (const OpId op : ops) {
    if (const StepDone* done = bench.done(op)) busy += done->busy;
  }
  v.expect(busy <= w.now() - start, "busy for {} ns in {} ns", busy.v, (w.now() - start).v);
}

inline void a_full_queue_refuses(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  std::vector<OpId> ops{bench.submit(w.decode(kMany)), bench.submit(w.decode(2))};
  // Two wait or run; whether a third may wait behind the running one is the implementation's, a fourth may not.
  Status third = bench.try_submit(w.decode(1));
  const Status fourth = third ? bench.try_submit(w.decode(1)) : third;
  v.expect(fourth.cause() == Cause::overload, "one too many: {}", name_of(fourth.cause()));
  w.executor().interrupt(ops[0]);
  bench.finish_all();
  v.expect(bench.done(ops[0]) && bench.done(ops[1]), "the accepted ones did not complete");
}

inline void an_interrupt_ends_a_run_at_its_next_boundary(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  const OpId probe = bench.submit(w.decode(1));
  bench.finish_all();
  if (!v.expect(bench.done(probe), "no step")) return;
  const Duration step = bench.done(probe)->busy;
  const OpId op = bench.submit(w.decode(kMany));
  bench.pass(step * 4);
  w.executor().interrupt(op);
  bench.finish_all();
  const StepDone* done = bench.done(op);
  if (!v.expect(done, "it did not complete")) return;
  v.expect(done->steps >= 1 && done->steps < kMany, "{} steps", done->steps);
  // Each counted step took at least half of what one took alone (contexts grow, prices do not halve).
  v.expect(done->busy >= step * done->steps / 2, "{} steps in {} ns, one takes {} ns", done->steps, done->busy.v,
           step.v);
}

inline void interrupting_and_aborting_unknown_or_finished_work_is_ignored(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  const OpId op = bench.submit(w.decode(2));
  w.executor().interrupt(OpId{777});
  w.executor().abort(OpId{777});
  bench.finish_all();
  w.executor().interrupt(op);
  w.executor().abort(op);
  const OpId next = bench.submit(w.decode(3));
  bench.finish_all();
  v.expect(bench.done(op) && bench.done(next) && bench.done(next)->steps == 3, "other work was changed");
}

inline void aborted_work_still_ends_once(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  const OpId running = bench.submit(w.decode(kMany));
  const OpId waiting = bench.submit(w.decode(2));
  bench.pass(Duration{5'000'000});
  w.executor().abort(waiting);
  w.executor().abort(running);
  w.executor().abort(running);
  bench.finish_all();
  bench.pass(Duration{50'000'000});
  for (const OpId op : {running, waiting}) {
    const StepFailed* lost = bench.failed(op);
    v.expect(bench.done(op) || (lost && lost->cause == Cause::canceled), "op {} ended with {}", op.v,
             lost ? name_of(lost->cause) : "nothing");
  }
  v.expect(bench.failed(running), "a run of a million steps completed");
  const OpId next = bench.submit(w.decode(2));
  bench.finish_all();
  v.expect(bench.done(next), "the executor does not work after an abort");
}

inline void misshapen_work_is_refused(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  for (const Step& step : w.misshapen(bench.next_op())) {
    const Status status = w.executor().submit(step);
    v.expect(status.cause() == Cause::protection, "{}", name_of(status.cause()));
  }
  bench.pass(Duration{50'000'000});
}

inline void a_lost_device_fails_what_was_accepted_and_refuses_the_rest(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  const OpId probe = bench.submit(w.decode(1));
  bench.finish_all();
  const Duration step = bench.done(probe) ? bench.done(probe)->busy : Duration{1'000'000};
  const OpId running = bench.submit(w.decode(kMany));
  const OpId waiting = bench.submit(w.decode(2));
  bench.pass(step * 5);
  w.fail_device();
  bench.finish_all();
  for (const OpId op : {running, waiting}) {
    const StepFailed* lost = bench.failed(op);
    v.expect(lost && lost->cause == Cause::device_lost, "op {} ended with {}", op.v,
             lost ? name_of(lost->cause) : "success");
  }
  if (const StepFailed* lost = bench.failed(running))
    v.expect(lost->steps >= 1 && lost->steps < kMany, "{} boundaries reached", lost->steps);
  const Status late = bench.try_submit(w.decode(1));
  v.expect(late.cause() == Cause::device_lost, "a later step: {}", name_of(late.cause()));
}

inline void a_short_poll_buffer_loses_nothing(ExecutorWorld& w, Verdict& v) {
  Bench bench(w, v);
  bench.submit(w.decode(1));
  bench.submit(w.decode(1));
  v.expect(w.executor().poll({}) == 0, "poll into nothing returned something");
  const Instant end = w.now() + Duration{500'000'000};
  w.run_until([&] { return w.now() >= end; }, kWait);
  bench.set_poll_size(1);
  bench.finish_all();
}

}  // namespace executor_clauses_detail

inline const std::vector<Clause<ExecutorWorld>>& executor_clauses() {
  using namespace executor_clauses_detail;
#define FAULTLINE_CLAUSE(name) \
  { #name, name }
  static const std::vector<Clause<ExecutorWorld>> clauses{
      FAULTLINE_CLAUSE(a_prefill_step_is_done_once),
      FAULTLINE_CLAUSE(a_decode_run_does_all_its_steps),
      FAULTLINE_CLAUSE(steps_run_one_after_another_in_order),
      FAULTLINE_CLAUSE(a_full_queue_refuses),
      FAULTLINE_CLAUSE(an_interrupt_ends_a_run_at_its_next_boundary),
      FAULTLINE_CLAUSE(interrupting_and_aborting_unknown_or_finished_work_is_ignored),
      FAULTLINE_CLAUSE(aborted_work_still_ends_once),
      FAULTLINE_CLAUSE(misshapen_work_is_refused),
      FAULTLINE_CLAUSE(a_lost_device_fails_what_was_accepted_and_refuses_the_rest),
      FAULTLINE_CLAUSE(a_short_poll_buffer_loses_nothing),
  };
#undef FAULTLINE_CLAUSE
  return clauses;
}

}  // namespace faultline::contract
