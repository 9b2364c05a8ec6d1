#include "core/metrics/impact.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <set>

#include "core/metrics/clusters.h"
#include "core/metrics/request.h"
#include "core/metrics/series.h"

namespace faultline::metrics {
namespace {

using record::FaultRecord;
using record::Outcome;
using record::RequestRecord;
using record::RunRecord;

constexpr std::int64_t kSecond = 1'000'000'000;

/// Faults of `run` that `other` has too, by id: the background of the pair.
bool is_background(const FaultRecord& fault, const RunRecord* other) {
  if (!other) return false;
  return std::any_of(other->faults.begin(), other->faults.end(),
                     [&](const FaultRecord& f) { return f.id == fault.id && f.kind == fault.kind; });
}

/// Which cluster a fault, a capacity interval or a request belongs to. No request is counted for two clusters and none
/// is forgotten.
class Attribution {
 public:
  Attribution(const std::vector<Cluster>& clusters, std::size_t faults, Instant run_end)
      : clusters_(clusters), of_fault_(faults, -1), run_end_(run_end) {
    for (std::size_t i = 0; i < clusters.size(); ++i) {
      for (const std::uint32_t f : clusters[i].faults) of_fault_[f] = static_cast<int>(i);
      for (unsigned bit = 0; bit < 64; ++bit) {
        if (clusters[i].hit_mask >> bit & 1) of_bit_[bit] = static_cast<int>(i);
      }
    }
  }

  int of_fault(std::uint32_t fault) const { return fault < of_fault_.size() ? of_fault_[fault] : -1; }

  /// Calls `each` once for every cluster that hit the request.
  template <class Each>
  void each_hit(std::uint64_t bits, Each each) const {
    for (; bits != 0; bits &= bits - 1) {
      const int c = of_bit_[static_cast<std::size_t>(std::countr_zero(bits))];
      if (c < 0) continue;
      bits = (bits & ~clusters_[static_cast<std::size_t>(c)].hit_mask) |
             (bits & (~bits + 1));  // its other bits are done, too
      each(static_cast<std::size_t>(c));
    }
  }

  /// The last cluster that hit it; else the last that began before the request would have ended without any fault (a
  /// cause comes before its effect). -1: none.
  int of(const RequestRecord& here, const RequestRecord& there) const {
    int last = -1;
    each_hit(here.hit_by, [&](std::size_t c) { last = std::max(last, static_cast<int>(c)); });
    if (last >= 0) return last;
    const Instant ends = there.end == kNever ? run_end_ : there.end;
    const auto after = std::upper_bound(clusters_.begin(), clusters_.end(), ends,
                                        [](Instant t, const Cluster& c) { return t < c.begin; });
    return static_cast<int>(after - clusters_.begin()) - 1;
  }

 private:
  const std::vector<Cluster>& clusters_;
  std::vector<int> of_fault_;
  std::array<int, 64> of_bit_ = [] {
    std::array<int, 64> none{};
    none.fill(-1);
    return none;
  }();
  Instant run_end_;
};

bool delayed(const RunRecord& here_run, const RequestRecord& here, const RunRecord& there_run,
             const RequestRecord& there, int percent) {
  const auto a = latency(here), b = latency(there);
  if (!a || !b) return false;
  // Latencies are below 2^63 / 200 ns (a year and a half).
  if (a->v * 100 > b->v * (100 + percent)) return true;
  return met_slo(there_run, there) && !met_slo(here_run, here);
}

bool differs(const RequestRecord& a, const RequestRecord& b) {
  return a.end != b.end || a.first_token != b.first_token || a.outcome != b.outcome || a.attempts != b.attempts ||
         a.output_delivered != b.output_delivered;
}

std::int64_t goodput_tokens(const RunRecord& run, const RequestRecord& r) {
  return met_slo(run, r) ? r.output_delivered : 0;
}

/// Requests delayed and instances with rerouted load, by cluster, of one pair.
struct Spread {
  std::vector<std::int64_t> delayed;
  std::vector<std::set<std::uint32_t>> indirect;
};

Spread spread_of(const RunRecord& here, const RunRecord& without, const std::vector<Cluster>& clusters,
                 const std::vector<std::set<std::uint32_t>>& direct, const Attribution& attribution, int percent) {
  Spread out{std::vector<std::int64_t>(clusters.size()), std::vector<std::set<std::uint32_t>>(clusters.size())};
  const std::size_t n = std::min(here.requests.size(), without.requests.size());
  for (std::size_t id = 0; id < n; ++id) {
    const RequestRecord &a = here.requests[id], &b = without.requests[id];
    const int to = attribution.of(a, b);
    if (to < 0) continue;
    const auto c = static_cast<std::size_t>(to);
    if (delayed(here, a, without, b, percent)) ++out.delayed[c];
    // Rerouted: it was served by a touched instance there and by another one here, while the fault lasted.
    const bool in_time =
        a.hit_by & clusters[c].hit_mask ? true : a.arrival >= clusters[c].begin && a.arrival <= clusters[c].effect_end;
    if (in_time && a.instance.valid() && b.instance.valid() && a.instance != b.instance &&
        direct[c].contains(b.instance.v) && !direct[c].contains(a.instance.v)) {
      out.indirect[c].insert(a.instance.v);
    }
  }
  return out;
}

FaultMember member_of(const RunRecord& run, std::uint32_t index) {
  const FaultRecord& f = run.faults[index];
  FaultMember m;
  m.index = index;
  m.id = f.id;
  m.kind = f.kind;
  m.target = f.target;
  m.recovery = f.recovery;
  m.at = f.at;
  m.reverted = f.reverted;
  m.applied = f.applied;
  m.not_applied_reason = f.not_applied_reason;
  m.phases = f.phases;
  return m;
}

record::FaultPhases merged_phases(const RunRecord& run, const Cluster& cluster) {
  record::FaultPhases out = run.faults[cluster.faults[0]].phases;
  const auto latest = [](Instant& a, Instant b) {
    if (b != kNever) a = a == kNever ? b : std::max(a, b);
  };
  for (std::size_t i = 1; i < cluster.faults.size(); ++i) {
    const record::FaultPhases& p = run.faults[cluster.faults[i]].phases;
    out.symptom = std::min(out.symptom, p.symptom);
    out.detect = std::min(out.detect, p.detect);
    out.decide = std::min(out.decide, p.decide);
    latest(out.drain, p.drain);
    latest(out.reroute, p.reroute);
    latest(out.replace, p.replace);
    latest(out.ready, p.ready);
    out.fence = std::min(out.fence, p.fence);
    out.repair_state = std::min(out.repair_state, p.repair_state);
    out.degraded = std::min(out.degraded, p.degraded);
    latest(out.rejoin, p.rejoin);
    latest(out.restore, p.restore);
    latest(out.first_token, p.first_token);
  }
  return out;
}

/// Most GPUs with no usable share at one instant. An interval that ends frees its GPU before one that begins takes it.
std::int64_t most_at_once(const std::vector<const record::CapacityInterval*>& intervals) {
  std::vector<std::pair<Instant, int>> steps;
  for (const auto* c : intervals) {
    if (c->usable > 0 || c->from >= c->to) continue;
    steps.emplace_back(c->from, +1);
    steps.emplace_back(c->to, -1);
  }
  std::sort(steps.begin(), steps.end());
  std::int64_t now = 0, most = 0;
  for (const auto& [at, step] : steps) most = std::max(most, now += step);
  return most;
}

/// Union of the members' times in force.
Duration active_time(const RunRecord& run, const Cluster& cluster) {
  Duration sum{0};
  Instant covered = run.begin;
  for (const std::uint32_t f : cluster.faults) {  // sorted by application
    const Instant from = std::max(run.faults[f].at, covered);
    const Instant to = std::min(run.faults[f].reverted, run.end);
    if (to <= from) continue;
    sum += to - from;
    covered = to;
  }
  return sum;
}

using Intervals = std::vector<const record::CapacityInterval*>;

FaultImpact causal(const RunRecord& run, const Cluster& cluster, const Intervals& intervals) {
  FaultImpact out;
  out.cluster_reason = cluster.reason;
  out.at = cluster.begin;
  std::set<std::uint32_t> own_gpus, direct;
  for (const std::uint32_t f : cluster.faults) {
    const FaultRecord& fault = run.faults[f];
    out.members.push_back(member_of(run, f));
    out.targeted += fault.targeted_components;
    out.kv_bytes_lost += fault.kv_bytes_lost;
    for (const ComponentId gpu : fault.own_gpus) own_gpus.insert(gpu.v);
    for (const InstanceId i : fault.instances_direct) direct.insert(i.v);
  }
  out.instances_direct = static_cast<std::int64_t>(direct.size());
  out.phases = merged_phases(run, cluster);

  for (const record::CapacityInterval* c : intervals) {
    const Duration time = std::min(c->to, run.end) - c->from;
    if (time.v <= 0) continue;
    (c->own ? out.own : out.collateral).add(1 - c->usable, time);
    if (c->usable <= 0) out.structural.add(1, time);
  }
  out.structural_gpus_max = most_at_once(intervals);
  out.capacity_loss = out.own;
  out.capacity_loss += out.collateral;
  if (!out.own.zero()) {
    out.amplification = out.capacity_loss.gpu_seconds() / out.own.gpu_seconds();
  } else {
    out.amplification_reason = own_gpus.empty() ? "the fault disables or disconnects no GPU directly"
                                                : "the GPUs it disables lost no serving time";
  }
  out.active = active_time(run, cluster);
  if (out.active.v > 0) out.capacity_loss_per_fault_s = out.capacity_loss.gpu_seconds() / seconds(out.active);
  return out;
}

void count_hit(FaultImpact& impact, const RequestRecord& r) {
  ++impact.requests_hit;
  for (FaultMember& m : impact.members) m.requests_hit += (r.hit_by & hit_bit(m.index)) != 0;
  if (r.outcome == Outcome::failed) ++impact.requests_hit_failed;
  if (r.interrupted()) ++impact.requests_hit_retried;
  if (r.interrupted() && r.outcome == Outcome::completed) ++impact.interrupted_but_completed;
  impact.hit_tokens_recomputed += r.tokens_recomputed;
  impact.hit_tokens_lost += r.tokens_lost;
}

Dip dip_of(const std::vector<std::int64_t>& here, const std::vector<std::int64_t>& there, std::int64_t from,
           std::int64_t to, std::int64_t window_s, int share_percent, Instant begin) {
  Dip dip;
  std::int64_t h = 0, t = 0;
  const auto at = [](const std::vector<std::int64_t>& bins, std::int64_t i) {
    return i < static_cast<std::int64_t>(bins.size()) ? bins[static_cast<std::size_t>(i)] : 0;
  };
  for (std::int64_t i = from; i < from + window_s; ++i) {
    h += at(here, i);
    t += at(there, i);
  }
  for (std::int64_t k = from; k + window_s <= to; ++k) {
    if (t > 0) {
      const double share = static_cast<double>(h) / static_cast<double>(t);
      if (share < dip.share_min) {
        dip.share_min = share;
        dip.at = begin + Duration{k * kSecond};
      }
      if (h * 100 < t * share_percent) dip.below += Duration{kSecond};
    }
    h += at(here, k + window_s) - at(here, k);
    t += at(there, k + window_s) - at(there, k);
  }
  return dip;
}

/// t95, restore and the dip of each cluster.
void recovery(const RunRecord& run, const RunRecord& without, const std::vector<Cluster>& clusters,
              const Options& options, const std::vector<Intervals>& intervals, std::vector<FaultImpact>& impacts) {
  const auto here = output_bins(run), there = output_bins(without);
  const auto good_here = goodput_bins(run), good_there = goodput_bins(without);
  const std::int64_t window_s = std::max<std::int64_t>(1, options.window.v / kSecond);
  const std::int64_t hold_s = std::max<std::int64_t>(1, options.hold.v / kSecond);
  // Past the end of the shorter run there is nothing to compare.
  const Instant both_end = std::min(run.end, without.end);
  for (std::size_t i = 0; i < clusters.size(); ++i) {
    Counterfactual& p = *impacts[i].paired;
    const bool next_fault_first = i + 1 < clusters.size() && clusters[i + 1].begin < both_end;
    const Instant horizon = next_fault_first ? clusters[i + 1].begin : both_end;
    const std::int64_t last = (horizon - run.begin).v / kSecond;
    const std::int64_t from = (clusters[i].begin - run.begin).v / kSecond;
    p.dip = dip_of(here, there, from, last, window_s, options.share_percent, run.begin);
    const auto after = [&](std::int64_t second) {
      return std::max(Duration{0}, run.begin + Duration{second * kSecond} - clusters[i].begin);
    };
    if (const auto k = first_held(here, there, from, last, window_s, hold_s, options.share_percent)) p.t95 = after(*k);
    // Restored: throughput and goodput are back together, and every GPU that the fault took is serving (or replaced).
    Instant capacity_back = clusters[i].begin;
    for (const record::CapacityInterval* c : intervals[i])
      capacity_back = std::max(capacity_back, std::min(c->to, run.end));
    std::optional<std::int64_t> k = ((capacity_back - run.begin).v + kSecond - 1) / kSecond;
    *k = std::max(*k, from);
    for (std::optional<std::int64_t> before; k && k != before;) {  // to the first second that satisfies both
      before = k;
      k = first_held(here, there, *k, last, window_s, hold_s, options.share_percent);
      if (k) k = first_held(good_here, good_there, *k, last, window_s, hold_s, options.share_percent);
    }
    if (k) p.restore = std::max(after(*k), capacity_back - clusters[i].begin);
    if (!p.t95 || !p.restore) {
      p.not_restored_reason = fmt::format("{} before the service had been back for {} s",
                                          next_fault_first ? "the next fault came" : "the run ended", hold_s);
    }
  }
}

}  // namespace

void GpuTime::add(double lost_share, Duration time) {
  const double share = std::clamp(lost_share, 0.0, 1.0);
  ppb_ns_ += static_cast<std::int64_t>(share * 1e9 + 0.5) * static_cast<decltype(ppb_ns_)>(time.v);
}

Impacts compare(const RunRecord& run, const RunRecord* without, const RunRecord* placebo, const Options& options) {
  Impacts out;
  std::vector<std::uint32_t> subjects;
  for (std::uint32_t f = 0; f < run.faults.size(); ++f) {
    if (!is_background(run.faults[f], without)) subjects.push_back(f);
  }
  if (subjects.size() < run.faults.size()) {
    out.notes.push_back(fmt::format("{} faults are in both runs of the pair and are not reported",
                                    run.faults.size() - subjects.size()));
  }
  const std::vector<Cluster> clusters = clusters_of(run, subjects);
  const Attribution attribution(clusters, run.faults.size(), without ? without->end : run.end);
  std::vector<Intervals> intervals(clusters.size());
  for (const record::CapacityInterval& c : run.capacity) {
    if (const int to = attribution.of_fault(c.fault); to >= 0) intervals[static_cast<std::size_t>(to)].push_back(&c);
  }
  std::vector<std::set<std::uint32_t>> direct;
  for (std::size_t i = 0; i < clusters.size(); ++i) {
    const Cluster& cluster = clusters[i];
    out.faults.push_back(causal(run, cluster, intervals[i]));
    std::set<std::uint32_t> instances;
    for (const std::uint32_t f : cluster.faults) {
      for (const InstanceId instance : run.faults[f].instances_direct) instances.insert(instance.v);
    }
    direct.push_back(std::move(instances));
  }
  for (const RequestRecord& r : run.requests) {
    attribution.each_hit(r.hit_by, [&](std::size_t c) { count_hit(out.faults[c], r); });
  }
  if (clusters.size() > 1 && without) {
    out.notes.push_back(
        "several faults in one run: differences to the paired run are attributed to the last fault that hit a "
        "request or came before its end in the paired run");
  }

  if (without && !clusters.empty()) {
    for (FaultImpact& impact : out.faults) {
      impact.paired.emplace();
      impact.paired->goodput_loss_by_class.resize(std::max<std::size_t>(1, run.slo_class_names.size()));
    }
    std::int64_t arrivals_differ = 0;
    const std::size_t n = std::min(run.requests.size(), without->requests.size());
    for (std::size_t id = 0; id < n; ++id) {
      const RequestRecord &a = run.requests[id], &b = without->requests[id];
      if (a.arrival != b.arrival || a.prompt_tokens != b.prompt_tokens || a.output_tokens != b.output_tokens)
        ++arrivals_differ;
      const int to = attribution.of(a, b);
      if (to < 0) {
        if (differs(a, b)) ++out.differences_before_fault;
        continue;
      }
      Counterfactual& p = *out.faults[static_cast<std::size_t>(to)].paired;
      if (a.outcome == Outcome::failed && b.outcome != Outcome::failed) ++p.requests_failed;
      if (a.outcome == Outcome::rejected && b.outcome != Outcome::rejected) ++p.requests_rejected;
      if (a.attempts > b.attempts && a.attempts > 1) ++p.requests_retried;
      p.tokens_recomputed += a.tokens_recomputed - b.tokens_recomputed;
      p.tokens_lost += a.tokens_lost - b.tokens_lost;
      const std::int64_t loss = goodput_tokens(*without, b) - goodput_tokens(run, a);
      p.goodput_loss_tokens += loss;
      if (a.slo_class >= p.goodput_loss_by_class.size()) p.goodput_loss_by_class.resize(a.slo_class + 1u);
      p.goodput_loss_by_class[a.slo_class] += loss;
    }
    if (run.requests.size() != without->requests.size() || arrivals_differ > 0) {
      out.notes.push_back(
          fmt::format("the paired runs have {} and {} requests, {} of them with another arrival or other lengths: "
                      "differences compare the n-th request of each",
                      run.requests.size(), without->requests.size(), arrivals_differ));
    }
    const Spread spread = spread_of(run, *without, clusters, direct, attribution, options.delayed_percent);
    std::optional<Spread> control;
    if (placebo) control = spread_of(*placebo, *without, clusters, direct, attribution, options.delayed_percent);
    for (std::size_t i = 0; i < clusters.size(); ++i) {
      Counterfactual& p = *out.faults[i].paired;
      p.requests_delayed.raw = spread.delayed[i];
      p.instances_indirect.raw = static_cast<std::int64_t>(spread.indirect[i].size());
      if (!control) continue;
      p.requests_delayed.placebo = control->delayed[i];
      p.instances_indirect.placebo = static_cast<std::int64_t>(control->indirect[i].size());
    }
    recovery(run, *without, clusters, options, intervals, out.faults);
    if (out.differences_before_fault > 0) {
      out.notes.push_back(
          fmt::format("{} requests differ although both runs ended them before the first fault: the pair is not "
                      "a pair",
                      out.differences_before_fault));
    }
  }
  for (const std::uint32_t f : subjects) {
    if (run.faults[f].applied) continue;
    FaultImpact impact;
    impact.members.push_back(member_of(run, f));
    impact.amplification_reason = "the fault was not applied";
    out.faults.push_back(std::move(impact));
  }
  return out;
}

}  // namespace faultline::metrics
