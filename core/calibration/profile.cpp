#include "core/calibration/profile.h"

#include <algorithm>

namespace faultline::calibration {
namespace {

void add(KernelTime& time, std::int64_t ns) {
  time.min_ns = time.count == 0 ? ns : std::min(time.min_ns, ns);
  time.max_ns = std::max(time.max_ns, ns);
  time.total_ns += ns;
  ++time.count;
}

}  // namespace

void ProfileFold::event(const GpuEvent& event) {
  first_ns_ = events_ == 0 ? event.start_ns : std::min(first_ns_, event.start_ns);
  last_ns_ = std::max(last_ns_, event.start_ns + event.duration_ns);
  ++events_;
  busy_ns_ += event.duration_ns;
  std::string name(event.name);
  auto known = operation_of_.find(name);
  if (known == operation_of_.end()) {
    std::string operation(event.category == "kernel" ? rules_.operation_of(name) : std::string_view("copy"));
    known = operation_of_.emplace(name, std::move(operation)).first;
  }
  add(by_kernel_[name], event.duration_ns);
  if (!known->second.empty()) add(by_operation_[known->second], event.duration_ns);
}

std::vector<std::pair<std::string, KernelTime>> ProfileFold::unmapped() const {
  std::vector<std::pair<std::string, KernelTime>> out;
  for (const auto& [name, time] : by_kernel_)
    if (operation_of_.at(name).empty()) out.emplace_back(name, time);
  std::stable_sort(out.begin(), out.end(),
                   [](const auto& a, const auto& b) { return a.second.total_ns > b.second.total_ns; });
  return out;
}

Duration ProfileFold::unmapped_time() const {
  Duration sum{};
  for (const auto& [name, time] : by_kernel_)
    if (operation_of_.at(name).empty()) sum.v += time.total_ns;
  return sum;
}

}  // namespace faultline::calibration
