#include "core/control/autoscaler.h"

#include <algorithm>

namespace faultline::control {

int Autoscaler::decide(const View& view) {
  // Where nobody serves, nobody reports a load: the minimum is kept without asking for one.
  if (view.accepting + view.starting < spec_.instances_min && view.standby > 0) {
    changed_ = view.now;
    return 1;
  }
  if (changed_.ns >= 0 && view.now < changed_ + spec_.cooldown) return 0;
  const auto tokens = static_cast<double>(view.outstanding_tokens);
  const double per_instance = tokens / std::max(1, view.active + view.starting);
  if (per_instance > spec_.scale_up_tokens && view.standby > 0) {
    changed_ = view.now;
    return 1;
  }
  // Draining one must not push the others over the upper threshold.
  const double after = tokens / std::max(1, view.active - 1);
  if (per_instance < spec_.scale_down_tokens && after < spec_.scale_up_tokens && view.starting == 0 &&
      view.accepting > spec_.instances_min) {
    changed_ = view.now;
    return -1;
  }
  return 0;
}

}  // namespace faultline::control
