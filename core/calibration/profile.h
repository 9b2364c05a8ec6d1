// GPU events of a profile, folded as they stream past: time by operation, time that no rule maps, busy time. Memory is
// bounded by the number of distinct kernel names, not by the number of events.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/calibration/rules.h"

namespace faultline::calibration {

/// One kernel, copy or memset as it ran.
struct GpuEvent {
  std::string_view name;      // valid during the call
  std::string_view category;  // kernel, gpu_memcpy, gpu_memset
  std::int64_t start_ns = 0;
  std::int64_t duration_ns = 0;
  std::string_view stream;
  std::string_view device;
};

class GpuEventSink {
 public:
  virtual ~GpuEventSink() = default;
  virtual void event(const GpuEvent& event) = 0;
};

struct KernelTime {
  std::int64_t count = 0;
  std::int64_t total_ns = 0, min_ns = 0, max_ns = 0;
};

/// Adds up events by kernel name and by operation of the rules.
class ProfileFold final : public GpuEventSink {
 public:
  explicit ProfileFold(const KernelRules& rules) : rules_(rules) {}
  void event(const GpuEvent& event) override;

  std::int64_t events() const { return events_; }
  /// Sum of the durations of all GPU events (streams may overlap; PyTorch's and rocprofv3's "busy").
  Duration busy() const { return {busy_ns_}; }
  /// From the first start to the last end.
  Duration span() const { return {events_ == 0 ? 0 : last_ns_ - first_ns_}; }
  const std::map<std::string, KernelTime>& by_kernel() const { return by_kernel_; }
  const std::map<std::string, KernelTime>& by_operation() const { return by_operation_; }
  /// Kernels without a rule, longest first.
  std::vector<std::pair<std::string, KernelTime>> unmapped() const;
  Duration unmapped_time() const;

 private:
  const KernelRules& rules_;
  std::map<std::string, KernelTime> by_kernel_, by_operation_;
  std::map<std::string, std::string> operation_of_;  // kernel name -> operation, found once
  std::int64_t events_ = 0, busy_ns_ = 0, first_ns_ = 0, last_ns_ = 0;
};

}  // namespace faultline::calibration
