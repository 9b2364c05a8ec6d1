#include "core/metrics/clusters.h"

#include <fmt/format.h>

#include <algorithm>

namespace faultline::metrics {
namespace {

void extend(Instant& end, Instant t) {
  if (t != kNever) end = std::max(end, t);
}

}  // namespace

std::vector<Instant> effect_ends(const record::RunRecord& run) {
  std::vector<Instant> ends;
  ends.reserve(run.faults.size());
  for (const record::FaultRecord& f : run.faults) {
    Instant end = f.applied ? f.at : kNever;
    if (f.applied) {
      extend(end, f.reverted);
      const record::FaultPhases& p = f.phases;
      for (const Instant t : {p.symptom, p.detect, p.decide, p.drain, p.reroute, p.replace, p.ready, p.degraded,
                              p.rejoin, p.restore, p.first_token})
        extend(end, t);
    }
    ends.push_back(end);
  }
  for (const record::CapacityInterval& c : run.capacity) {
    if (c.fault < ends.size() && ends[c.fault] != kNever) extend(ends[c.fault], std::min(c.to, run.end));
  }
  return ends;
}

std::vector<Cluster> clusters_of(const record::RunRecord& run, const std::vector<std::uint32_t>& faults) {
  const std::vector<Instant> ends = effect_ends(run);
  std::vector<Cluster> single;
  for (const std::uint32_t f : faults) {
    if (!run.faults[f].applied) continue;
    single.push_back({{f}, run.faults[f].at, ends[f], hit_bit(f), {}});
  }
  std::stable_sort(single.begin(), single.end(), [](const Cluster& a, const Cluster& b) { return a.begin < b.begin; });
  // Faults from the 63rd on share a bit. Everything between two that share it joins them, so that clusters stay
  // intervals of time.
  Cluster* first_shared = nullptr;
  for (Cluster& c : single) {
    if (c.hit_mask != hit_bit(63)) continue;
    if (first_shared) first_shared->effect_end = std::max(first_shared->effect_end, c.begin);
    else first_shared = &c;
  }
  std::vector<Cluster> out;
  for (Cluster& next : single) {
    const bool shares_bit = !out.empty() && (out.back().hit_mask & next.hit_mask) != 0;
    const bool overlaps = !out.empty() && (next.begin < out.back().effect_end || next.begin == out.back().begin);
    if (!overlaps && !shares_bit) {
      out.push_back(std::move(next));
      continue;
    }
    Cluster& last = out.back();
    last.reason = shares_bit ? "more than 64 faults in one run share a mark on the requests they hit"
                             : "a fault came before the effects of the one before had ended";
    last.faults.insert(last.faults.end(), next.faults.begin(), next.faults.end());
    last.effect_end = std::max(last.effect_end, next.effect_end);
    last.hit_mask |= next.hit_mask;
  }
  return out;
}

}  // namespace faultline::metrics
