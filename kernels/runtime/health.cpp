#include "kernels/runtime/health.h"

#include <cstring>
#include <string>
#include <thread>

#include "kernels/ops/rows_args.h"

namespace faultline::kernels {

HealthProbe::HealthProbe(Device& device) : device_(device), answers_(device, kBlocks * sizeof(std::uint32_t), true) {
  std::memset(answers_.data(), 0, answers_.bytes());
}

Outcome<> HealthProbe::check(std::chrono::nanoseconds deadline) {
  const std::uint32_t token = ++token_;
  auto* answers = answers_.data<std::uint32_t>();
  const auto end = std::chrono::steady_clock::now() + deadline;
  if (auto done = device_.launch(Kernel::health, {kBlocks, 1, 1}, HealthArgs{answers, token}); !done) return done;
  for (;;) {
    int missing = 0;
    for (int b = 0; b < kBlocks; ++b) {
      const std::uint32_t answer = __atomic_load_n(answers + b, __ATOMIC_ACQUIRE);
      if (answer == ~token) return Failure{"health", 0, "a wrong answer from block " + std::to_string(b)};
      missing += answer == token ? 0 : 1;
    }
    if (missing == 0) return Done{};
    if (std::chrono::steady_clock::now() >= end) {
      return Failure{
          "health", 0,
          "no answer from " + std::to_string(missing) + " of " + std::to_string(kBlocks) + " blocks within " +
              std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(deadline).count()) + " ms"};
    }
    std::this_thread::yield();
  }
}

}  // namespace faultline::kernels
