#include "core/fluid/compare.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/report/text.h"

namespace faultline::fluid {

std::optional<double> ComparisonRow::difference() const {
  if (!fluid || !step || *step == 0) return std::nullopt;
  return (*fluid - *step) / *step;
}

std::vector<ComparisonRow> compare(const Result& with, const Result& without, const metrics::Summary& step,
                                   const metrics::Impacts& impacts) {
  double lost = 0, own = 0, hit = 0, goodput_loss = 0;
  std::optional<double> detect, ready;
  for (const metrics::FaultImpact& f : impacts.faults) {
    if (!f.applied()) continue;
    lost += f.capacity_loss.gpu_seconds();
    own += f.own.gpu_seconds();
    hit += static_cast<double>(f.requests_hit_failed + f.requests_hit_retried);
    if (f.paired) goodput_loss += static_cast<double>(f.paired->goodput_loss_tokens);
    if (f.phases.detect != kNever) detect = std::max(detect.value_or(0), seconds(f.phases.detect - f.at));
    if (f.phases.ready != kNever) ready = std::max(ready.value_or(0), seconds(f.phases.ready - f.at));
  }
  std::optional<double> fluid_detect, fluid_ready;
  for (const FaultCost& c : with.costs) {
    if (c.detect_s >= 0) fluid_detect = std::max(fluid_detect.value_or(0), c.detect_s);
    if (c.ready_s >= 0) fluid_ready = std::max(fluid_ready.value_or(0), c.ready_s);
  }
  return {
      {"detected after, slowest, s", fluid_detect, detect},
      {"ready after, slowest, s", fluid_ready, ready},
      {"capacity lost, GPU-s", with.lost_gpu_s, lost},
      {"of it the failed GPUs', GPU-s", with.own_gpu_s, own},
      {"requests arrived", with.arrived, static_cast<double>(step.requests.arrived)},
      {"requests interrupted", with.hit, hit},
      {"requests failed or rejected", with.failed, static_cast<double>(step.requests.failed + step.requests.rejected)},
      {"requests within the SLO", with.good, static_cast<double>(step.throughput.goodput_requests)},
      {"goodput lost, tokens", without.good_tokens - with.good_tokens, goodput_loss}};
}

nlohmann::ordered_json comparison_json(const std::vector<ComparisonRow>& rows) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  const auto value = [](const std::optional<double>& v) {
    return v ? nlohmann::ordered_json(*v) : nlohmann::ordered_json(nullptr);
  };
  for (const ComparisonRow& r : rows)
    out.push_back(
        {{"what", r.what}, {"fluid", value(r.fluid)}, {"step", value(r.step)}, {"difference", value(r.difference())}});
  return out;
}

std::string comparison_text(const std::vector<ComparisonRow>& rows) {
  std::string out = fmt::format("{:<32} {:>14} {:>14} {:>11}\n", "fluid against step", "fluid", "step", "difference");
  const auto value = [](const std::optional<double>& v) { return v ? report::number(*v) : std::string("–"); };
  for (const ComparisonRow& r : rows) {
    const auto d = r.difference();
    out += fmt::format("{:<32} {:>14} {:>14} {:>11}\n", r.what, value(r.fluid), value(r.step),
                       d ? fmt::format("{:+.1f} %", 100 * *d) : "–");
  }
  return out;
}

}  // namespace faultline::fluid
