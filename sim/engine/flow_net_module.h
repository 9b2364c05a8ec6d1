// The module that FlowNet::open() opens, for processes that fork: what is loaded before is there in every child.
#pragma once

namespace faultline::sim {

/// Loads SimGrid (some 15 ms of relocations) without making an engine: a process that starts many runs pays for it
/// once. Throws std::runtime_error where the module is missing.
void load_flow_net();

}  // namespace faultline::sim
