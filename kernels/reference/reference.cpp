#include "kernels/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace faultline::kernels::reference {
namespace {

__extension__ typedef unsigned __int128 Wide;  // NOLINT: a standard name does not exist

std::size_t at(int row, int width, int column) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(width) + static_cast<std::size_t>(column);
}

}  // namespace

Matrix product(const Matrix& a, const Matrix& w, int m, int n, int k) {
  Matrix out(at(m, n, 0));
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      double s = 0;
      for (int e = 0; e < k; ++e) s += a[at(i, k, e)] * w[at(j, k, e)];
      out[at(i, n, j)] = s;
    }
  return out;
}

Matrix rms_norm(const Matrix& x, const std::vector<float>& weight, int m, int h, double eps) {
  Matrix out(x.size());
  for (int i = 0; i < m; ++i) {
    double squares = 0;
    for (int c = 0; c < h; ++c) squares += x[at(i, h, c)] * x[at(i, h, c)];
    const double inverse = 1.0 / std::sqrt(squares / h + eps);
    for (int c = 0; c < h; ++c)
      out[at(i, h, c)] = x[at(i, h, c)] * inverse * static_cast<double>(weight[static_cast<std::size_t>(c)]);
  }
  return out;
}

std::vector<double> attend(std::span<const double> q, const Matrix& k, const Matrix& v, int n, int dq, int dv,
                           double softmax_scale) {
  std::vector<double> out(static_cast<std::size_t>(dv), 0.0);
  if (n <= 0) return out;
  std::vector<double> p(static_cast<std::size_t>(n));
  double peak = -1e300;
  for (int t = 0; t < n; ++t) {
    double s = 0;
    for (int d = 0; d < dq; ++d) s += q[static_cast<std::size_t>(d)] * k[at(t, dq, d)];
    p[static_cast<std::size_t>(t)] = s * softmax_scale;
    peak = std::max(peak, s * softmax_scale);
  }
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x - peak);
  for (int t = 0; t < n; ++t)
    for (int d = 0; d < dv; ++d)
      out[static_cast<std::size_t>(d)] += p[static_cast<std::size_t>(t)] / sum * v[at(t, dv, d)];
  return out;
}

Routed route(std::span<const float> logits, std::span<const float> bias, int groups, int top_groups, int top_k,
             double route_scale) {
  const int experts = static_cast<int>(logits.size());
  std::vector<double> score, choice;
  for (int e = 0; e < experts; ++e) {
    const float x = logits[static_cast<std::size_t>(e)];
    score.push_back(std::isnan(x) ? 0.0 : 1.0 / (1.0 + std::exp(-static_cast<double>(x))));
    choice.push_back(score.back() + (bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(e)])));
  }
  std::vector<int> allowed(static_cast<std::size_t>(experts));
  std::iota(allowed.begin(), allowed.end(), 0);
  if (groups > 1) {
    const int size = experts / groups;
    std::vector<std::pair<double, int>> ranking;  // negative strength, group
    for (int g = 0; g < groups; ++g) {
      std::vector<double> members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      ranking.emplace_back(-(members[0] + members[1]), g);
    }
    std::sort(ranking.begin(), ranking.end());
    allowed.clear();
    for (int i = 0; i < top_groups; ++i)
      for (int e = 0; e < size; ++e) allowed.push_back(ranking[static_cast<std::size_t>(i)].second * size + e);
  }
  std::sort(allowed.begin(), allowed.end(), [&](int a, int b) {
    const double x = choice[static_cast<std::size_t>(a)], y = choice[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  Routed out;
  double sum = 0;
  for (int k = 0; k < top_k; ++k) {
    out.ids.push_back(allowed[static_cast<std::size_t>(k)]);
    sum += score[static_cast<std::size_t>(out.ids.back())];
  }
  for (const int e : out.ids)
    out.weights.push_back(sum > 0 ? score[static_cast<std::size_t>(e)] / sum * route_scale : 0.0);
  return out;
}

void rotate(std::span<double> x, int position, double base, bool interleaved) {
  const std::size_t half = x.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = position * std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(x.size()));
    double& a = interleaved ? x[2 * i] : x[i];
    double& b = interleaved ? x[2 * i + 1] : x[i + half];
    const double turned = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = turned;
  }
}

std::vector<float> angle_table(int positions, int n, double base) {
  std::vector<float> table;
  table.reserve(static_cast<std::size_t>(positions) * static_cast<std::size_t>(n));
  for (int p = 0; p < positions; ++p)
    for (int i = 0; i < n / 2; ++i) {
      const double angle = p * std::pow(base, -2.0 * i / n);
      table.push_back(static_cast<float>(std::cos(angle)));
      table.push_back(static_cast<float>(std::sin(angle)));
    }
  return table;
}

int sample(std::span<const float> logits, float temperature, int top_k, float top_p, std::uint64_t seed,
           std::uint64_t position) {
  constexpr float kLargest = 3e38F;
  int best = -1;
  for (int i = 0; i < static_cast<int>(logits.size()); ++i) {
    const float v = std::min(logits[static_cast<std::size_t>(i)], kLargest);
    if (std::isnan(logits[static_cast<std::size_t>(i)]) || v < -3.3e38F) continue;
    if (best < 0 || v > std::min(logits[static_cast<std::size_t>(best)], kLargest)) best = i;
  }
  if (best < 0 || !(temperature > 0)) return best;
  const float largest = std::min(logits[static_cast<std::size_t>(best)], kLargest);
  const float sharp = 1.44269504F / temperature;
  struct Candidate {
    std::uint64_t weight;
    int index;
  };
  std::vector<Candidate> candidates;
  for (int i = 0; i < static_cast<int>(logits.size()); ++i) {
    if (std::isnan(logits[static_cast<std::size_t>(i)])) continue;
    const float x = (std::min(logits[static_cast<std::size_t>(i)], kLargest) - largest) * sharp;
    if (!(x > -31.0F)) continue;
    const float whole = std::nearbyint(x), f = x - whole;
    float p = 1.535336188319500e-4F;
    for (const float c : {1.339887440266574e-3F, 9.618437357674640e-3F, 5.550332471162809e-2F, 2.402264791363012e-1F,
                          6.931472028550421e-1F, 1.0F})
      p = std::fma(p, f, c);
    const auto weight = static_cast<std::uint64_t>(p * 1073741824.0F) >> static_cast<int>(-whole);
    if (weight > 0) candidates.push_back({weight, i});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; });
  if (top_k > 0 && static_cast<std::size_t>(top_k) < candidates.size())
    candidates.resize(static_cast<std::size_t>(top_k));
  std::uint64_t total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  if (top_p < 1.0F) {
    const auto part = static_cast<Wide>(top_p > 0 ? static_cast<std::uint64_t>(top_p * 16777216.0F) : 0);
    auto mass = static_cast<std::uint64_t>((part * total + 16777215U) / 16777216U);
    mass = std::max<std::uint64_t>(mass, 1);
    std::uint64_t sum = 0;
    std::size_t kept = 0;
    while (kept < candidates.size() && sum < mass) sum += candidates[kept++].weight;
    candidates.resize(kept);
    total = sum;
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.index < b.index; });
  auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  };
  const std::uint64_t random = mix(mix(seed + 0x9e3779b97f4a7c15ULL) + 0x9e3779b97f4a7c15ULL * (position + 1));
  auto left = static_cast<std::uint64_t>(static_cast<Wide>(random) * total >> 64);
  for (const Candidate& c : candidates) {
    if (left < c.weight) return c.index;
    left -= c.weight;
  }
  return best;
}

double silu(double x) { return x / (1.0 + std::exp(-x)); }

}  // namespace faultline::kernels::reference
