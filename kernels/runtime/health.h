// Asks a device whether it still computes: the health kernel in every block of a small grid, with a deadline.
#pragma once

#include <chrono>

#include "kernels/runtime/device.h"

namespace faultline::kernels {

/// The answers stand in memory that host and device share, so that a device that hangs is noticed without waiting for
/// it. The kernel goes to the device's stream: work in front of it that does not end is a hang as well.
class HealthProbe {
 public:
  static constexpr int kBlocks = 8;
  explicit HealthProbe(Device& device);

  /// Done when every block gave the right answer before the deadline. Failures: "no answer" with the blocks that are
  /// missing, "a wrong answer" (a block computed something else), or that of the launch. A CPU answers before launch
  /// returns.
  Outcome<> check(std::chrono::nanoseconds deadline);

 private:
  Device& device_;
  Buffer answers_;
  std::uint32_t token_ = 0x5eed0000U;
};

}  // namespace faultline::kernels
