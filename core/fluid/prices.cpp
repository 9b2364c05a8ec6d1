#include "core/fluid/prices.h"

#include <fmt/format.h>

#include <algorithm>

namespace faultline::fluid {

void describe(config::Fields& f, Contract& s) {
  f.required("name", s.name);
  f.field("nodes", s.nodes, {.min = 1});
  f.required("node_hour", s.node_hour, config::kNotNegative);
}

void describe(config::Fields& f, Power& s) {
  f.field("busy_kw", s.busy_kw, config::kNotNegative);
  f.field("idle_kw", s.idle_kw, config::kNotNegative);
  f.field("kwh", s.kwh, config::kNotNegative);
}

void describe(config::Fields& f, Prices& s) {
  f.field("currency", s.currency);
  f.list("contracts", s.contracts, true);
  f.field("idle_spare_share", s.idle_spare_share, config::kRatio);
  f.object("power", s.power);
  f.field("credit_per_failed_request", s.credit_per_failed_request, config::kNotNegative);
  if (!f.reading()) return;
  if (s.contracts.empty()) f.error("contracts", "contracts: at least one is needed");
  for (std::size_t k = 0; k + 1 < s.contracts.size(); ++k) {
    if (!s.contracts[k].nodes)
      f.error("contracts",
              fmt::format("contract '{}' has no number of nodes, so that none after it is used", s.contracts[k].name));
  }
}

Prices load_prices(const std::string& text, const std::string& file) {
  config::Diagnostics diagnostics;
  const config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  Prices prices;
  config::read(document, document.root(), "", prices, diagnostics);
  diagnostics.throw_if_any();
  return prices;
}

Prices prices_of(double gpu_hour, std::int64_t gpus_per_node) {
  Prices p;
  p.contracts.push_back({"flat", std::nullopt, gpu_hour * static_cast<double>(gpus_per_node)});
  return p;
}

namespace {

double nodes_per_hour(const Prices& prices, double nodes) {
  double sum = 0;
  for (std::size_t k = 0; k < prices.contracts.size() && nodes > 0; ++k) {
    const Contract& c = prices.contracts[k];
    const bool last = k + 1 == prices.contracts.size();
    const double take = last || !c.nodes ? nodes : std::min(nodes, static_cast<double>(*c.nodes));
    sum += take * c.node_hour;
    nodes -= take;
  }
  return sum;
}

}  // namespace

double next_node_hour(const Prices& prices, std::int64_t nodes) {
  const auto n = static_cast<double>(nodes);
  return nodes_per_hour(prices, n + 1) - nodes_per_hour(prices, n) + prices.power.busy_kw * prices.power.kwh;
}

Money money_of(const Prices& prices, const FleetSize& size, const Result& result) {
  Money m;
  const auto serving = static_cast<double>(size.serving()), spare = static_cast<double>(size.spare_nodes);
  const double all = nodes_per_hour(prices, serving + spare), busy = nodes_per_hour(prices, serving);
  m.per_hour = busy + (all - busy) * prices.idle_spare_share +
               (serving * prices.power.busy_kw + spare * prices.power.idle_kw) * prices.power.kwh;
  m.credits = result.failed * prices.credit_per_failed_request;
  m.total = m.per_hour * result.duration_s / 3600 + m.credits;
  const double share = result.arrived > 0 ? result.good / result.arrived : 0;
  const double input = result.input_tokens * share, output = result.good_tokens;
  const double prefill = static_cast<double>(size.prefill_nodes) + static_cast<double>(size.mixed_nodes) / 2;
  const double prefill_share = serving > 0 ? prefill / serving : 0;
  if (input > 0) m.per_1m_input = m.total * prefill_share / input * 1e6;
  if (output > 0) m.per_1m_output = m.total * (1 - prefill_share) / output * 1e6;
  if (input + output > 0) m.per_1m_all = m.total / (input + output) * 1e6;
  return m;
}

}  // namespace faultline::fluid
