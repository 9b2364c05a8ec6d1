// Where a forecast starts: what an operator knows now. `--state FILE`:
//
//   load: 180                                          # requests per second now
//   instances_down: [{instance: 3, back_in: 4 min}]    # restarting or waiting
//   cordoned: [{node: node-12, back_in: 6 h}]          # in repair, its work is elsewhere or down
//   spares_used: 2                                     # beside the cordoned spares; back in spares_back_in
//   spares_back_in: 24 h
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config/fields.h"
#include "core/experiment/deployment.h"

namespace faultline::fluid {

struct InstanceDown {
  std::uint32_t instance = 0;
  Duration back_in{300'000'000'000};
};
struct Cordoned {
  std::string node;
  Duration back_in{86'400'000'000'000};
  config::Mark mark;
  NodeId id;
};
struct StartState {
  std::optional<double> load;
  std::vector<InstanceDown> instances_down;
  std::vector<Cordoned> cordoned;
  std::uint32_t spares_used = 0;
  Duration spares_back_in{86'400'000'000'000};
};
void describe(config::Fields& f, InstanceDown& s);
void describe(config::Fields& f, Cordoned& s);
void describe(config::Fields& f, StartState& s);

/// Throws config::ConfigError: unknown nodes and instances, more spares used than there are.
StartState load_state(const std::string& text, const std::string& file, const experiment::Deployment& deployment);

}  // namespace faultline::fluid
