#include "core/report/twin.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace faultline::report {
namespace {

constexpr double kRequestsAtLeast = 3, kRequestsShare = 0.05;  // of the prediction, whichever is more
constexpr double kPhaseShare = 0.10, kPhaseAtLeast = 0.050;    // seconds

const Json* at(const Json& json, const char* pointer) {
  const Json::json_pointer p(pointer);
  return json.contains(p) ? &json.at(p) : nullptr;
}

std::string text_of(const InstancesHit& hit) { return hit.empty() ? "none" : fmt::format("{}", fmt::join(hit, " ")); }

TwinLine count(const char* what, const Json& predicted, const Json& observed, const char* pointer) {
  const auto a = number_at(predicted, pointer), b = number_at(observed, pointer);
  TwinLine line{what, a ? fmt::format("{}", *a) : "-", b ? fmt::format("{}", *b) : "-", {}, true};
  if (!a || !b) return line;
  const double allowed = std::max(kRequestsAtLeast, kRequestsShare * *a);
  line.allowed = fmt::format("{:.0f}", std::floor(allowed));
  line.within = std::abs(*a - *b) <= allowed;
  return line;
}

TwinLine plain(const char* what, const char* format, const Json& predicted, const Json& observed, const char* pointer) {
  const auto a = number_at(predicted, pointer), b = number_at(observed, pointer);
  const auto text = [&](std::optional<double> v) {
    return v ? fmt::format(fmt::runtime(format), *v) : std::string("-");
  };
  return {what, text(a), text(b), {}, true};
}

TwinLine phase(const std::string& what, const Json* a, const Json* b) {
  const bool predicted = a != nullptr && a->is_number(), observed = b != nullptr && b->is_number();
  TwinLine line{what, "-", "-", "both or neither", predicted == observed};
  if (predicted) line.predicted = fmt::format("{:.3f} s", a->get<double>());
  if (observed) line.observed = fmt::format("{:.3f} s", b->get<double>());
  if (!predicted || !observed) return line;
  const double allowed = std::max(kPhaseAtLeast, kPhaseShare * a->get<double>());
  line.allowed = fmt::format("{:.0f} ms", allowed * 1e3);
  line.within = std::abs(a->get<double>() - b->get<double>()) <= allowed;
  return line;
}

}  // namespace

bool is_live(const Json& summary) {
  const Json* fidelity = at(summary, "/simulator/fidelity");
  return fidelity != nullptr && *fidelity == "live";
}

std::vector<TwinLine> twin_lines(const Json& predicted, const Json& observed,
                                 const std::optional<InstancesHit>& predicted_hit,
                                 const std::optional<InstancesHit>& observed_hit) {
  std::vector<TwinLine> lines;
  if (predicted_hit && observed_hit) {
    lines.push_back({"instances hit", text_of(*predicted_hit), text_of(*observed_hit), "the same",
                     *predicted_hit == *observed_hit});
  }
  lines.push_back(plain("requests arrived", "{}", predicted, observed, "/requests/arrived"));
  lines.push_back(count("requests failed", predicted, observed, "/requests/failed"));
  lines.push_back(count("requests rejected", predicted, observed, "/requests/rejected"));
  lines.push_back(count("requests retried", predicted, observed, "/requests/retried"));
  const Json* faults = at(predicted, "/faults");
  const Json* others = at(observed, "/faults");
  if (faults != nullptr && others != nullptr) {
    for (const Json& fault : *faults) {
      const std::string id = fault.value("id", "");
      const auto same =
          std::find_if(others->begin(), others->end(), [&](const Json& o) { return o.value("id", "") == id; });
      if (same == others->end()) {
        lines.push_back({id, "a fault", "-", "both", false});
        continue;
      }
      constexpr std::pair<const char*, const char*> kPhases[] = {
          {"/phases_s/symptom", "symptom"},  {"/phases_s/detect", "detected"},  {"/phases_s/decide", "decided"},
          {"/phases_s/reroute", "rerouted"}, {"/phases_s/replace", "replaced"}, {"/phases_s/ready", "ready"}};
      for (const auto& [pointer, name] : kPhases)
        lines.push_back(phase(id + ": " + name, at(fault, pointer), at(*same, pointer)));
    }
  }
  lines.push_back(plain("TTFT p50", "{:.3f} s", predicted, observed, "/latency/ttft_s/p50"));
  lines.push_back(plain("TPOT p50", "{:.4f} s", predicted, observed, "/latency/tpot_s/p50"));
  lines.push_back(plain("output tokens/s", "{:.1f}", predicted, observed, "/throughput/output_tokens_per_s"));
  return lines;
}

bool all_within(const std::vector<TwinLine>& lines) {
  return std::all_of(lines.begin(), lines.end(), [](const TwinLine& l) { return l.within; });
}

std::string twin_text(const std::string& predicted, const std::string& observed, const std::vector<TwinLine>& lines) {
  std::string out = fmt::format("prediction  {}\nobservation {}\n\n{:<24}{:>14}{:>14}   {}\n", predicted, observed, "",
                                "predicted", "observed", "allowed");
  for (const TwinLine& l : lines) {
    std::string row = fmt::format("{:<24}{:>14}{:>14}", l.what, l.predicted, l.observed);
    if (!l.allowed.empty()) row += fmt::format("   {}{}", l.allowed, l.within ? "" : "   <- outside");
    out += row + "\n";
  }
  const auto bound = std::count_if(lines.begin(), lines.end(), [](const TwinLine& l) { return !l.allowed.empty(); });
  const auto outside = std::count_if(lines.begin(), lines.end(), [](const TwinLine& l) { return !l.within; });
  out += outside == 0 ? fmt::format("\nall {} bounded figures are within what is allowed\n", bound)
                      : fmt::format("\n{} of {} bounded figures are outside what is allowed\n", outside, bound);
  return out;
}

Json twin_json(const std::string& predicted, const std::string& observed, const std::vector<TwinLine>& lines) {
  Json rows = Json::array();
  for (const TwinLine& l : lines) {
    rows.push_back({{"what", l.what},
                    {"predicted", l.predicted},
                    {"observed", l.observed},
                    {"allowed", l.allowed},
                    {"within", l.within}});
  }
  return {
      {"prediction", predicted}, {"observation", observed}, {"within", all_within(lines)}, {"lines", std::move(rows)}};
}

}  // namespace faultline::report
