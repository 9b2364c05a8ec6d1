// The emulator as a Device: the model step and the kernel tests run on it as on a GPU. Memory ends at guard pages, so
// an access past a buffer's end stops the program; so does one before its beginning.
#pragma once

#include <memory>

#include "kernels/runtime/host_device.h"

namespace faultline::kernels {

class EmulatedDevice : public HostDevice {
 public:
  explicit EmulatedDevice(std::uint64_t seed);
  ~EmulatedDevice() override;
  Outcome<void*> allocate(std::size_t bytes) override;
  void release(void* memory) override;

 protected:
  std::uint64_t schedule_seed() override { return ++seed_; }

 private:
  struct Mapping {
    void* base;
    std::size_t bytes;
  };
  std::map<void*, Mapping> mappings_;
  std::uint64_t seed_;
};

}  // namespace faultline::kernels
