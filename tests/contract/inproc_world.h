// The in-process transport as a TransportWorld in virtual time, with room for a decorator around each side.
#pragma once

#include <algorithm>

#include "backend/inproc/clocks.h"
#include "backend/inproc/inproc_transport.h"
#include "tests/contract/transport_contract.h"

namespace faultline::contract {

/// Jumps to the next time at which something is due, 10 ms at most, so that done() sees what is already queued.
inline bool run_virtual(inproc::ManualClock& clock, const std::function<bool()>& done, Duration budget,
                        const std::function<Instant()>& next_due) {
  const Instant end = clock.now() + budget;
  while (!done()) {
    if (clock.now() >= end) return false;
    clock.advance_to(
        std::clamp(next_due(), clock.now() + Duration{1}, std::min(end, clock.now() + Duration{10'000'000})));
  }
  return true;
}

class InprocWorld : public TransportWorld {
 public:
  explicit InprocWorld(inproc::FabricSettings settings = {}) : fabric_(clock_, settings) {
    for (auto& transport : inner_) transport = std::make_unique<inproc::InprocTransport>(fabric_);
  }
  Transport& transport(int side) override { return *inner_[static_cast<std::size_t>(side)]; }
  void destroy(int side) override { inner_[static_cast<std::size_t>(side)].reset(); }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    return run_virtual(clock_, done, budget, [this] { return next_due(); });
  }
  void break_route() override { fabric_.break_route(*inner_[0], *inner_[1]); }
  void mend_route() override { fabric_.mend_route(*inner_[0], *inner_[1]); }
  Instant now() override { return clock_.now(); }

 protected:
  virtual Instant next_due() { return fabric_.next_due(); }
  inproc::ManualClock clock_;
  inproc::Fabric fabric_;
  std::array<std::unique_ptr<inproc::InprocTransport>, 2> inner_;
};

/// Each side wrapped in a decorator that make(inner, clock) builds.
template <class Decorator>
class DecoratedInprocWorld : public InprocWorld {
 public:
  using Make = std::function<std::unique_ptr<Decorator>(Transport&, const Clock&)>;
  explicit DecoratedInprocWorld(const Make& make, inproc::FabricSettings settings = {}) : InprocWorld(settings) {
    for (std::size_t i = 0; i < 2; ++i) outer_[i] = make(*inner_[i], clock_);
  }
  Transport& transport(int side) override { return *outer_[static_cast<std::size_t>(side)]; }
  Decorator& decorator(int side) { return *outer_[static_cast<std::size_t>(side)]; }
  void destroy(int side) override {
    outer_[static_cast<std::size_t>(side)].reset();
    InprocWorld::destroy(side);
  }

 protected:
  std::array<std::unique_ptr<Decorator>, 2> outer_;
};

}  // namespace faultline::contract
