#include "core/control/autoscaler.h"

#include <algorithm>

namespace faultline::control {

int Autoscaler::decide(Instant now, std::int32_t active, std::int32_t starting, std::int32_t standby, std::int64_t outstanding_tokens) {
  if (changed_.ns >= 0 && now < changed_ + spec_.cooldown) return 0;
  const double per_instance = static_cast<double>(outstanding_tokens) / std::max(1, active + starting);
  if (per_instance > spec_.scale_up_tokens && standby > 0) {
    changed_ = now;
    return 1;
  }
  // Draining one must not push the others over the upper threshold.
  const double after = static_cast<double>(outstanding_tokens) / std::max(1, active - 1);
  if (per_instance < spec_.scale_down_tokens && after < spec_.scale_up_tokens && starting == 0 && active > spec_.instances_min) {
    changed_ = now;
    return -1;
  }
  return 0;
}

}  // namespace faultline::control
