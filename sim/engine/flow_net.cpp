#include "sim/engine/flow_net.h"

#include "core/base/module.h"
#include "sim/engine/flow_net_module.h"

namespace faultline::sim {
namespace {

using Open = FlowNet*(std::span<const BytesPerSecond>);

Open* opener() {
  static Open* const open = open_module<Open>("libfaultline_simgrid.so", "faultline_open_flow_net");
  return open;
}

}  // namespace

std::unique_ptr<FlowNet> FlowNet::open(std::span<const BytesPerSecond> capacity) {
  return std::unique_ptr<FlowNet>(opener()(capacity));
}

void load_flow_net() { opener(); }

}  // namespace faultline::sim
