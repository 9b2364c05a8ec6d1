// What a fleet costs: a price file, or the experiment's price of one GPU-hour.
//
//   currency: USD
//   contracts:                               # filled from the first on; the last may be without a number of nodes
//     - {name: reserved, nodes: 40, node_hour: 11.2}
//     - {name: on demand, node_hour: 16}
//   idle_spare_share: 1                      # of the node-hour that an idle spare costs
//   power: {busy_kw: 10, idle_kw: 3, kwh: 0.08}   # of one node, on top of the node-hour; cooling included in kwh
//   credit_per_failed_request: 0.002         # paid back to the customer
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config/fields.h"
#include "core/fluid/result.h"

namespace faultline::fluid {

struct Contract {
  std::string name;
  std::optional<std::int64_t> nodes;  // none: as many as needed
  double node_hour = 0;
};
struct Power {
  double busy_kw = 0, idle_kw = 0, kwh = 0;
};
struct Prices {
  std::string currency = "USD";
  std::vector<Contract> contracts;
  double idle_spare_share = 1;
  Power power;
  double credit_per_failed_request = 0;
};
void describe(config::Fields& f, Contract& s);
void describe(config::Fields& f, Power& s);
void describe(config::Fields& f, Prices& s);

/// Throws config::ConfigError.
Prices load_prices(const std::string& text, const std::string& file);
/// One contract at this price of a GPU-hour.
Prices prices_of(double gpu_hour, std::int64_t gpus_per_node);

struct Money {
  double per_hour = 0;                         // of the whole fleet, without credits
  double total = 0;                            // of the run, credits included
  double credits = 0;                          // of the run
  double per_1m_input = 0, per_1m_output = 0;  // of tokens within the SLO; the prefill nodes' share pays for the input
  double per_1m_all = 0;
};
struct FleetSize {
  std::int64_t prefill_nodes = 0, decode_nodes = 0, mixed_nodes = 0, spare_nodes = 0;
  std::int64_t serving() const { return prefill_nodes + decode_nodes + mixed_nodes; }
};
/// Nodes beyond the last contract's number cost as in the last contract.
Money money_of(const Prices& prices, const FleetSize& size, const Result& result);
/// Price of one serving node more, per hour: that of the contract it falls into.
double next_node_hour(const Prices& prices, std::int64_t nodes);

}  // namespace faultline::fluid
