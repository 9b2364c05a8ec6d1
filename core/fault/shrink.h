// From a run that fails to the few faults that make it fail. Delta debugging after Zeller and Hildebrandt (2002):
// remove halves, then quarters, … of the list as long as what remains still fails; the result fails and is 1-minimal:
// without any one of its elements it does not.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "core/fault/schedule.h"

namespace faultline::fault {

/// Precondition: fails(all). At most about n^2 calls, n log n for few culprits. `fails` must be a pure function.
template <class T>
std::vector<T> shrink(std::vector<T> all, const std::function<bool(const std::vector<T>&)>& fails) {
  std::size_t parts = 2;
  while (all.size() >= 2) {
    const std::size_t size = (all.size() + parts - 1) / parts;
    bool smaller = false;
    for (std::size_t begin = 0; begin < all.size() && !smaller; begin += size) {
      const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = all.begin() + static_cast<std::ptrdiff_t>(std::min(begin + size, all.size()));
      if (parts == 2 || size == 1) {  // a part alone, where that is not what another complement tries
        const std::vector<T> alone(first, last);
        if (alone.size() < all.size() && parts == 2 && fails(alone)) {
          all = alone;
          parts = 2;
          smaller = true;
          break;
        }
      }
      std::vector<T> rest(all.begin(), first);
      rest.insert(rest.end(), last, all.end());
      if (!rest.empty() && fails(rest)) {
        all = std::move(rest);
        parts = std::max<std::size_t>(parts - 1, 2);
        smaller = true;
      }
    }
    if (smaller) continue;
    if (size == 1) break;
    parts = std::min(parts * 2, all.size());
  }
  return all;
}

/// An expanded schedule as a list of single faults with fixed instants, targets and lengths: what was drawn is written
/// out, so that any subset of it can be run. Names become ids; triggers by event stay.
std::vector<FaultSpec> scripted(const FaultSchedule& schedule);

}  // namespace faultline::fault
