#include "kernels/runtime/host_device.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace faultline::kernels {

// A graph on the host: the launches with their arguments. Running it reads memory anew, as a GPU's graph does.
class HostDevice::Recording : public Graph {
 public:
  struct Node {
    Kernel kernel;
    Grid grid;
    std::vector<std::uint8_t> args;
  };
  std::size_t node_count() const override { return nodes.size(); }
  std::vector<Node> nodes;
};

HostDevice::HostDevice(std::string name, std::vector<std::span<const Entry>> tables) : name_(std::move(name)) {
  for (const KernelInfo& info : kernel_infos()) {
    const Entry* found = nullptr;
    for (const auto& table : tables)
      for (const Entry& entry : table)
        if (std::strcmp(entry.name, info.name) == 0) found = &entry;
    if (found == nullptr || found->args_bytes != info.args_bytes) {
      throw std::logic_error("kernel " + std::string(info.name) + " is missing from " + name_);
    }
    entries_.push_back(found);
  }
}

HostDevice::~HostDevice() = default;

Outcome<> HostDevice::refuse_in_capture(const char* op) const {
  if (recording_ != nullptr) return Failure{op, 0, "not allowed while a graph is captured"};
  return Done{};
}

Outcome<void*> HostDevice::allocate(std::size_t bytes) {
  if (auto allowed = refuse_in_capture("allocate"); !allowed) return allowed.failure();
  void* memory = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
  if (memory == nullptr) return Failure{"allocate", 0, std::to_string(bytes) + " bytes are not to be had"};
  return memory;
}

void HostDevice::release(void* memory) { std::free(memory); }

Outcome<> HostDevice::copy_in(void* device, const void* host, std::size_t bytes) {
  if (auto allowed = refuse_in_capture("copy_in"); !allowed) return allowed;
  std::memcpy(device, host, bytes);
  return Done{};
}

Outcome<> HostDevice::copy_out(void* host, const void* device, std::size_t bytes) {
  if (auto allowed = refuse_in_capture("copy_out"); !allowed) return allowed;
  std::memcpy(host, device, bytes);
  return Done{};
}

Outcome<> HostDevice::fill(void* device, std::uint8_t byte, std::size_t bytes) {
  if (auto allowed = refuse_in_capture("fill"); !allowed) return allowed;
  std::memset(device, byte, bytes);
  return Done{};
}

Outcome<> HostDevice::synchronize() { return refuse_in_capture("synchronize"); }

Outcome<> HostDevice::launch(Kernel kernel, const Grid& grid, const void* args, std::size_t args_bytes) {
  const auto index = static_cast<std::size_t>(kernel);
  if (index >= entries_.size()) return Failure{"launch", 0, "no kernel number " + std::to_string(index)};
  const Entry& entry = *entries_[index];
  if (args_bytes != entry.args_bytes) {
    return Failure{
        entry.name, 0,
        std::to_string(args_bytes) + " bytes of arguments, " + std::to_string(entry.args_bytes) + " expected"};
  }
  if (grid.x < 0 || grid.y < 0 || grid.z < 0) return Failure{entry.name, 0, "a negative grid"};
  if (recording_ != nullptr) {
    const auto* bytes = static_cast<const std::uint8_t*>(args);
    recording_->nodes.push_back({kernel, grid, {bytes, bytes + args_bytes}});
    return Done{};
  }
  ++launches_;
  Grid seeded = grid;
  seeded.seed = schedule_seed();
  try {
    entry.run(args, seeded);
  } catch (const std::exception& e) {  // the emulator's findings
    return Failure{entry.name, 0, e.what()};
  }
  return Done{};
}

Outcome<> HostDevice::begin_capture() {
  if (auto allowed = refuse_in_capture("begin_capture"); !allowed) return allowed;
  recording_ = std::make_unique<Recording>();
  return Done{};
}

Outcome<std::unique_ptr<Graph>> HostDevice::end_capture() {
  if (recording_ == nullptr) return Failure{"end_capture", 0, "no capture is under way"};
  return std::unique_ptr<Graph>(std::move(recording_));
}

Outcome<> HostDevice::run(Graph& graph) {
  if (auto allowed = refuse_in_capture("run"); !allowed) return allowed;
  auto* recording = dynamic_cast<Recording*>(&graph);
  if (recording == nullptr) return Failure{"run", 0, "the graph belongs to another device"};
  for (const auto& node : recording->nodes)
    if (auto ran = launch(node.kernel, node.grid, node.args.data(), node.args.size()); !ran) return ran;
  return Done{};
}

Outcome<> HostDevice::mark(int which) {
  marks_[which & 1] = std::chrono::steady_clock::now();
  return Done{};
}

Outcome<double> HostDevice::nanoseconds_between_marks() {
  return std::chrono::duration<double, std::nano>(marks_[1] - marks_[0]).count();
}

}  // namespace faultline::kernels
