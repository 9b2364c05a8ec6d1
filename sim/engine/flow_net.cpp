#include "sim/engine/flow_net.h"

#include "core/base/module.h"

namespace faultline::sim {

std::unique_ptr<FlowNet> FlowNet::open(std::span<const BytesPerSecond> capacity) {
  using Open = FlowNet*(std::span<const BytesPerSecond>);
  static Open* const open = open_module<Open>("libfaultline_simgrid.so", "faultline_open_flow_net");
  return std::unique_ptr<FlowNet>(open(capacity));
}

}  // namespace faultline::sim
