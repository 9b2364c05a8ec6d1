// A device whose memory is the host's and whose kernels are functions: the CPU levels, and the emulator in tests.
#pragma once

#include <chrono>
#include <map>
#include <span>
#include <vector>

#include "kernels/runtime/device.h"

namespace faultline::kernels {

class HostDevice : public Device {
 public:
  HostDevice(std::string name, std::vector<std::span<const Entry>> tables);
  ~HostDevice() override;

  std::string name() const override { return name_; }
  Fp8Format fp8_format() const override { return Fp8Format::fnuz; }
  DeviceLimits limits() const override { return {}; }
  Outcome<void*> allocate(std::size_t bytes) override;
  Outcome<void*> allocate_shared(std::size_t bytes) override { return allocate(bytes); }
  void release(void* memory) override;
  Outcome<> copy_in(void* device, const void* host, std::size_t bytes) override;
  Outcome<> copy_out(void* host, const void* device, std::size_t bytes) override;
  Outcome<> fill(void* device, std::uint8_t byte, std::size_t bytes) override;
  Outcome<> synchronize() override;
  using Device::launch;
  Outcome<> launch(Kernel kernel, const Grid& grid, const void* args, std::size_t args_bytes) override;
  Outcome<> begin_capture() override;
  Outcome<std::unique_ptr<Graph>> end_capture() override;
  Outcome<> run(Graph& graph) override;
  bool capturing() const override { return recording_ != nullptr; }
  Outcome<> mark(int which) override;
  Outcome<double> nanoseconds_between_marks() override;

  std::uint64_t launches() const { return launches_; }

 protected:
  virtual std::uint64_t schedule_seed() { return 1; }

 private:
  class Recording;
  Outcome<> refuse_in_capture(const char* op) const;

  std::string name_;
  std::vector<const Entry*> entries_;  // by Kernel
  std::unique_ptr<Recording> recording_;
  std::uint64_t launches_ = 0;
  std::chrono::steady_clock::time_point marks_[2];
};

}  // namespace faultline::kernels
