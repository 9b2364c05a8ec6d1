#include "core/fluid/prices.h"

#include <gtest/gtest.h>

#include "core/config/diagnostics.h"

namespace faultline::fluid {
namespace {

std::string errors_of(const std::string& text) {
  try {
    load_prices(text, "p.yaml");
  } catch (const config::ConfigError& e) {
    return e.what();
  }
  return "";
}

TEST(Prices, ContractsAreFilledInOrderAndIdleSparesCostTheirShare) {
  const Prices p = load_prices(
      "contracts: [{name: reserved, nodes: 4, node_hour: 10}, {name: on demand, node_hour: 16}]\n"
      "idle_spare_share: 0.5\npower: {busy_kw: 10, idle_kw: 2, kwh: 0.1}\ncredit_per_failed_request: 0.01\n",
      "p.yaml");
  Result r;
  r.duration_s = 7200;
  r.arrived = r.good = 1000;
  r.failed = 100;
  r.good_tokens = 1e6;
  r.input_tokens = 3e6;
  const Money m = money_of(p, {.prefill_nodes = 3, .decode_nodes = 3, .spare_nodes = 1}, r);
  EXPECT_DOUBLE_EQ(m.per_hour, 4 * 10 + 2 * 16 + 0.5 * 16 + (6 * 10 + 2) * 0.1);
  EXPECT_DOUBLE_EQ(m.credits, 1);
  EXPECT_DOUBLE_EQ(m.total, 2 * m.per_hour + 1);
  EXPECT_DOUBLE_EQ(m.per_1m_output, m.total / 2);  // half of the nodes decode
  EXPECT_DOUBLE_EQ(m.per_1m_input, m.total / 2 / 3);
  EXPECT_DOUBLE_EQ(next_node_hour(p, 2), 10 + 1);
  EXPECT_DOUBLE_EQ(next_node_hour(p, 6), 16 + 1);
}

TEST(Prices, ErrorsAreNamedAtTheirPlace) {
  EXPECT_EQ(errors_of("contracts: []\n"), "p.yaml:1:12: error: contracts: at least one is needed\n");
  EXPECT_EQ(errors_of("contracts: [{name: a, node_hour: 1}, {name: b, node_hour: 2}]\n"),
            "p.yaml:1:12: error: contract 'a' has no number of nodes, so that none after it is used\n");
  EXPECT_NE(errors_of("contracts: [{name: a, node_hour: -1}]\n").find("p.yaml:1:34: error: "), std::string::npos);
}

}  // namespace
}  // namespace faultline::fluid
