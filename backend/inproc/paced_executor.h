// Executor that computes nothing: a step takes the time that its prices say, by the Clock it is given. With real time
// it lets real controllers, sockets and failures run on a laptop; with a ManualClock it is a deterministic double.
// Owner: one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "core/ports/clock.h"
#include "core/ports/executor.h"

namespace faultline::inproc {

/// What a step waits for besides its time: a meeting with the other ranks of the group.
class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  /// A step begins. One that was aborted is not taken back: its meeting ends when it ends.
  virtual void begin() = 0;
  /// Every meeting that was begun has ended.
  virtual bool ended() const = 0;
};

struct PacedPrices {
  std::function<Duration(const PrefillStep&)> prefill;
  /// Of the step with this index (from 0) of the run: contexts grow as it goes.
  std::function<Duration(const DecodeRun&, std::int64_t step)> decode;
  std::size_t dp_ranks = 1;  // loads of another length are refused
  /// A step reaches its boundary when its time has passed and the meeting has ended. The schedule stays: a step that
  /// was late does not move the boundaries after it.
  Rendezvous* rendezvous = nullptr;
};

class PacedExecutor final : public Executor {
 public:
  PacedExecutor(const Clock& clock, PacedPrices prices) : clock_(&clock), prices_(std::move(prices)) {}

  Status submit(const Step& step) override;
  /// A run that is still queued stops after its first step.
  void interrupt(OpId op) override;
  void abort(OpId op) override;
  std::size_t poll(std::span<ExecutorEvent> out) override;

  /// The device is gone: what was accepted fails with device_lost now, what comes later is refused.
  void fail_device();
  /// No step reaches its next boundary any more; abort() still works. A hang of the device.
  void hang();
  /// The time of the next terminal event if nothing else happens (with a rendezvous: of the next boundary); kNever if
  /// none is due. May be in the past.
  Instant next_due();
  /// The op that runs and the boundaries it has passed; invalid when idle.
  std::pair<OpId, std::int64_t> running() const {
    return queue_.empty() || !queue_.front().start ? std::pair{OpId{}, std::int64_t{0}}
                                                   : std::pair{queue_.front().step.op, queue_.front().steps};
  }

 private:
  struct Work {
    Step step;
    std::optional<Instant> start;  // set when it runs
    Instant boundary{};            // end of the step that runs now
    Instant reached{};             // last boundary passed (or start)
    std::int64_t steps = 0;
    bool stop = false;  // at the next boundary
  };
  void advance(Instant now);
  void begin_step() {
    if (prices_.rendezvous != nullptr) prices_.rendezvous->begin();
  }
  Duration price(const Work& work) const;
  bool shapes_fit(const Step& step) const;

  static constexpr std::size_t kQueueMax = 2;  // one runs, one waits
  const Clock* clock_;
  PacedPrices prices_;
  std::deque<Work> queue_;
  std::deque<ExecutorEvent> events_;
  Instant free_at_{};  // end of the last step that ran
  bool lost_ = false;
  bool hung_ = false;
};

}  // namespace faultline::inproc
