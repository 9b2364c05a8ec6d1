// Messenger between objects of one process (core/ports/message_board.h). Time comes from the Clock of the Switchboard,
// so that a run with a ManualClock is deterministic. Owner: one thread for a Switchboard and its users.
#pragma once

#include <map>
#include <utility>

#include "core/ports/clock.h"
#include "core/ports/message_board.h"

namespace faultline::inproc {

struct SwitchboardSettings {
  // Suspected after three missed heartbeats, lost after ten.
  ports::MessageNetSettings net{
      .latency = {20'000}, .heartbeat = {50'000'000}, .suspected_after = 3, .lost_after = 10, .seed = 0};
  ports::MessageLimits limits;
};

class Switchboard final : public ports::MessageBoard {
 public:
  explicit Switchboard(const Clock& clock, SwitchboardSettings settings = {})
      : MessageBoard(settings.net, settings.limits), clock_(&clock), settings_(settings) {}
  const SwitchboardSettings& settings() const { return settings_; }
  Instant next_due() const { return due_.empty() ? kNever : due_.begin()->first.first; }

 private:
  Instant message_time() const override { return running_ == kNever ? clock_->now() : running_; }
  void wake_at(Instant at, std::uint32_t token) override { due_.emplace(std::make_pair(at, ++scheduled_), token); }
  void catch_up() override;

  const Clock* clock_;
  SwitchboardSettings settings_;
  std::map<std::pair<Instant, std::uint64_t>, std::uint32_t> due_;  // [time, order] = token
  std::uint64_t scheduled_ = 0;
  Instant running_ = kNever;  // the time of what catch_up() is doing
};

using InprocMessenger = ports::BoardMessenger;

}  // namespace faultline::inproc
