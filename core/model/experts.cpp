#include "core/model/experts.h"

#include <algorithm>
#include <numeric>

#include "core/base/assert.h"
#include "core/base/math.h"
#include "core/base/random.h"

namespace faultline::model {
namespace {

constexpr std::int64_t kScaleBlock = 128 * 128;  // FP8 weights: one 4-byte scale for each block, as in memory.cpp

/// Copies of each expert so that the fullest copy is as light as possible: each further slot goes to the expert whose
/// copies carry most (DeepSeek EPLB, "replicate_experts").
std::vector<std::int64_t> replicate(const std::vector<double>& load, const std::vector<std::uint16_t>& experts,
                                    std::int64_t slots) {
  std::vector<std::int64_t> copies(experts.size(), 1);
  for (auto left = slots - static_cast<std::int64_t>(experts.size()); left > 0; --left) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < experts.size(); ++i) {
      if (load[experts[i]] * static_cast<double>(copies[best]) > load[experts[best]] * static_cast<double>(copies[i]))
        best = i;
    }
    ++copies[best];
  }
  return copies;
}

struct Copy {
  std::uint16_t expert;
  double load;
};

/// Heaviest first, each to the lightest GPU with a free slot; a GPU that has the expert already comes last.
void pack(std::vector<Copy> copies, const std::vector<std::int64_t>& gpus, std::int64_t layer, ExpertPlacement& p) {
  std::stable_sort(copies.begin(), copies.end(), [](const Copy& a, const Copy& b) { return a.load > b.load; });
  std::vector<double> load(gpus.size());
  std::vector<std::int64_t> used(gpus.size());
  for (const Copy& c : copies) {
    std::size_t best = gpus.size();
    bool best_has = false;
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (used[g] == p.slots) continue;
      bool has = false;
      for (std::int64_t s = 0; s < used[g] && !has; ++s) has = p.at(layer, gpus[g], s) == c.expert;
      if (best == gpus.size() || has < best_has || (has == best_has && load[g] < load[best])) {
        best = g;
        best_has = has;
      }
    }
    FAULTLINE_ASSERT(best < gpus.size(), "no slot for expert {}", c.expert);
    p.at(layer, gpus[best], used[best]++) = c.expert;
    load[best] += c.load;
  }
}

void place_set(const std::vector<double>& load, const std::vector<std::uint16_t>& experts,
               const std::vector<std::int64_t>& gpus, std::int64_t layer, ExpertPlacement& p) {
  const auto copies = replicate(load, experts, static_cast<std::int64_t>(gpus.size()) * p.slots);
  std::vector<Copy> all;
  for (std::size_t i = 0; i < experts.size(); ++i) {
    for (std::int64_t k = 0; k < copies[i]; ++k)
      all.push_back({experts[i], load[experts[i]] / static_cast<double>(copies[i])});
  }
  pack(std::move(all), gpus, layer, p);
}

}  // namespace

void describe(config::Fields& f, PopularitySpec& s) {
  f.field("kind", s.kind);
  if (s.kind == PopularityKind::zipf) f.field("exponent", s.exponent, {.min = 0, .max = 4});
  if (s.kind == PopularityKind::given) f.list("weights", s.weights);
  f.field("drift_period", s.drift_period, config::kNotNegative);
  f.field("drift_share", s.drift_share, config::kRatio);
}

void describe(config::Fields& f, BalanceSpec& s) {
  f.field("balanced", s.balanced);
  f.field("hierarchical", s.hierarchical);
  f.field("rebalance_period", s.rebalance_period, config::kNotNegative);
}

std::vector<double> popularity(const PopularitySpec& s, std::int64_t experts, std::int64_t layer, std::int64_t drifts,
                               std::uint64_t seed) {
  const auto n = static_cast<std::size_t>(experts);
  std::vector<double> load(n, 1.0 / static_cast<double>(experts));
  if (s.kind == PopularityKind::uniform) return load;
  std::vector<std::size_t> order(n);  // order[k]: the expert of rank k
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto layer_index = static_cast<std::uint64_t>(layer);
  if (s.kind == PopularityKind::zipf) {
    Random random(seed, "experts/order", layer_index);
    for (std::size_t k = n; k > 1; --k) std::swap(order[k - 1], order[random.below(k)]);
  } else {
    std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(layer_index % n), order.end());
  }
  const auto swaps = static_cast<std::int64_t>(s.drift_share * static_cast<double>(n) / 2 + 0.5);
  for (std::int64_t d = 1; d <= drifts && s.drift_period.v > 0; ++d) {
    Random random(seed, "experts/drift", layer_index, static_cast<std::uint64_t>(d));
    for (std::int64_t k = 0; k < swaps; ++k) std::swap(order[random.below(n)], order[random.below(n)]);
  }
  double sum = 0;
  for (std::size_t k = 0; k < n; ++k) {
    const double w =
        s.kind == PopularityKind::zipf ? stable::pow(static_cast<double>(k + 1), -s.exponent) : s.weights[k];
    load[order[k]] = w;
    sum += w;
  }
  for (double& x : load) x /= sum;
  return load;
}

std::int64_t ExpertPlacement::missing() const {
  std::int64_t count = 0;
  std::vector<bool> held(static_cast<std::size_t>(experts));
  for (std::int64_t l = 0; l < layers; ++l) {
    std::fill(held.begin(), held.end(), false);
    for (std::int64_t k = 0; k < gpus * slots; ++k) {
      if (const std::uint16_t e = expert[static_cast<std::size_t>(l * gpus * slots + k)]; e != kEmpty) held[e] = true;
    }
    count += std::count(held.begin(), held.end(), false);
  }
  return count;
}

ExpertPlacement ExpertPlacement::without(const std::vector<bool>& gone) const {
  ExpertPlacement p = *this;
  for (std::int64_t l = 0; l < layers; ++l) {
    for (std::int64_t g = 0; g < gpus; ++g) {
      for (std::int64_t s = 0; gone[static_cast<std::size_t>(g)] && s < slots; ++s) p.at(l, g, s) = kEmpty;
    }
  }
  return p;
}

ExpertPlacement empty_placement(const ParallelPlan& p, const ModelShape& s, const DeviceSpec& d) {
  FAULTLINE_ASSERT(p.exchanges() && s.experts < ExpertPlacement::kEmpty, "ep={} dp={} experts={}", p.ep, p.dp,
                   s.experts);
  ExpertPlacement e;
  e.layers = s.moe_layers();
  e.gpus = p.ep;
  e.slots = experts_per_gpu(p, s);
  e.gpus_per_node = d.gpus_per_node;
  e.experts = s.experts;
  e.expert.assign(static_cast<std::size_t>(e.layers * e.gpus * e.slots), ExpertPlacement::kEmpty);
  return e;
}

ExpertPlacement place_experts(ExpertPlacement p, const std::vector<std::vector<double>>& loads,
                              const std::vector<bool>& gone, const BalanceSpec& balance) {
  std::fill(p.expert.begin(), p.expert.end(), ExpertPlacement::kEmpty);
  std::vector<std::int64_t> live;
  for (std::int64_t g = 0; g < p.gpus; ++g) {
    if (!gone[static_cast<std::size_t>(g)]) live.push_back(g);
  }
  const auto width = static_cast<std::int64_t>(live.size());
  FAULTLINE_ASSERT(width * p.slots >= p.experts, "{} GPUs of {} slots cannot hold {} experts", width, p.slots,
                   p.experts);
  const std::int64_t nodes = (p.gpus + p.gpus_per_node - 1) / p.gpus_per_node;
  const bool by_node = balance.hierarchical && width == p.gpus && nodes > 1 && p.experts % nodes == 0;
  std::vector<std::uint16_t> all(static_cast<std::size_t>(p.experts));
  std::iota(all.begin(), all.end(), std::uint16_t{0});
  for (std::int64_t l = 0; l < p.layers; ++l) {
    const auto& load = loads[static_cast<std::size_t>(l)];
    if (!balance.balanced) {
      for (std::int64_t k = 0; k < width * p.slots; ++k) {
        p.at(l, live[static_cast<std::size_t>(k / p.slots)], k % p.slots) = static_cast<std::uint16_t>(k % p.experts);
      }
    } else if (by_node) {
      // Experts in order are the model's groups: equal parts of them go to the nodes, then each node balances its own.
      const std::int64_t part = p.experts / nodes;
      for (std::int64_t n = 0; n < nodes; ++n) {
        const std::vector<std::uint16_t> experts(all.begin() + n * part, all.begin() + (n + 1) * part);
        std::vector<std::int64_t> gpus;
        for (const std::int64_t g : live) {
          if (g / p.gpus_per_node == n) gpus.push_back(g);
        }
        place_set(load, experts, gpus, l, p);
      }
    } else {
      place_set(load, all, live, l, p);
    }
  }
  return p;
}

double imbalance_of(const ExpertPlacement& p, const std::vector<std::vector<double>>& loads,
                    const std::vector<bool>& gone) {
  const auto live = static_cast<double>(std::count(gone.begin(), gone.end(), false));
  double sum = 0;
  std::vector<std::int64_t> copies(static_cast<std::size_t>(p.experts));
  for (std::int64_t l = 0; l < p.layers; ++l) {
    std::fill(copies.begin(), copies.end(), 0);
    for (std::int64_t k = 0; k < p.gpus * p.slots; ++k) {
      if (const std::uint16_t e = p.expert[static_cast<std::size_t>(l * p.gpus * p.slots + k)];
          e != ExpertPlacement::kEmpty)
        ++copies[e];
    }
    const auto& load = loads[static_cast<std::size_t>(l)];
    double total = 0, most = 0;
    for (std::int64_t g = 0; g < p.gpus; ++g) {
      double mine = 0;
      for (std::int64_t s = 0; s < p.slots; ++s) {
        if (const std::uint16_t e = p.at(l, g, s); e != ExpertPlacement::kEmpty)
          mine += load[e] / static_cast<double>(copies[e]);
      }
      total += mine;
      most = std::max(most, mine);
    }
    sum += total > 0 ? most * live / total : 1;
  }
  return std::max(1.0, sum / static_cast<double>(p.layers));
}

Bytes expert_bytes(const ModelShape& s) {
  const std::int64_t weights = expert_parameters(s);
  if (s.weight_precision == Precision::bf16) return {2 * weights};
  return {weights + 4 * ((weights + kScaleBlock - 1) / kScaleBlock)};
}

RepairCount count_repair(const ExpertPlacement& before, const ExpertPlacement& after, const ModelShape& shape,
                         bool host_copies) {
  RepairCount r;
  r.expert_bytes = expert_bytes(shape).v;
  const std::int64_t nodes = (after.gpus + after.gpus_per_node - 1) / after.gpus_per_node;
  const auto n = static_cast<std::size_t>(after.gpus);
  std::vector<std::int64_t> peer_in(n), xgmi_in(n), rdma_in(n), rdma_out(n);
  std::vector<std::int64_t> host(static_cast<std::size_t>(nodes)), disk(static_cast<std::size_t>(nodes));
  std::vector<std::vector<std::int64_t>> holders(static_cast<std::size_t>(after.experts));
  std::vector<std::size_t> turn(static_cast<std::size_t>(after.experts));
  for (std::int64_t l = 0; l < after.layers; ++l) {
    for (auto& h : holders) h.clear();
    for (std::int64_t g = 0; g < before.gpus; ++g) {
      for (std::int64_t s = 0; s < before.slots; ++s) {
        if (const std::uint16_t e = before.at(l, g, s); e != ExpertPlacement::kEmpty) holders[e].push_back(g);
      }
    }
    for (std::int64_t g = 0; g < after.gpus; ++g) {
      const std::int64_t node = g / after.gpus_per_node;
      for (std::int64_t s = 0; s < after.slots; ++s) {
        const std::uint16_t e = after.at(l, g, s);
        if (e == ExpertPlacement::kEmpty) continue;
        ++r.slots;
        const auto& from = holders[e];
        RepairSource source = RepairSource::peer;
        if (std::find(from.begin(), from.end(), g) != from.end()) {
          source = RepairSource::local;
        } else if (!from.empty()) {
          const auto near =
              std::find_if(from.begin(), from.end(), [&](std::int64_t x) { return x / after.gpus_per_node == node; });
          peer_in[static_cast<std::size_t>(g)] += r.expert_bytes;
          if (near != from.end()) {
            xgmi_in[static_cast<std::size_t>(g)] += r.expert_bytes;
          } else {
            const std::int64_t sender = from[turn[e]++ % from.size()];
            rdma_in[static_cast<std::size_t>(g)] += r.expert_bytes;
            rdma_out[static_cast<std::size_t>(sender)] += r.expert_bytes;
          }
        } else if (host_copies) {
          source = RepairSource::host;
          host[static_cast<std::size_t>(e * nodes / after.experts)] += r.expert_bytes;
        } else {
          source = RepairSource::disk;
          disk[static_cast<std::size_t>(node)] += r.expert_bytes;
        }
        ++r.by_source[static_cast<std::size_t>(source)];
      }
    }
  }
  const auto most = [](const std::vector<std::int64_t>& v) {
    return v.empty() ? 0 : *std::max_element(v.begin(), v.end());
  };
  r.gpu_bytes_max = most(peer_in);
  r.xgmi_bytes_max = most(xgmi_in);
  r.rdma_bytes_max = std::max(most(rdma_in), most(rdma_out));
  r.host_bytes_max = most(host);
  r.disk_bytes_max = most(disk);
  return r;
}

}  // namespace faultline::model
