// A place where kernels run: MI300X through HIP, H100 through the CUDA driver, or this machine's CPU. The model step
// and the benchmark are written against this interface; tests add the emulator.
//
// One stream, in order. Not thread-safe: a device belongs to one thread. Launches may return before the kernel has run;
// synchronize waits and reports what went wrong since the last call.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/groups/list.h"
#include "kernels/groups/table.h"
#include "kernels/runtime/outcome.h"
#include "kernels/tile/fp8.h"

namespace faultline::kernels {

enum class Kernel : std::uint16_t {
#define FAULTLINE_NAME(name, Args) name,
  FAULTLINE_KERNELS_ALL(FAULTLINE_NAME)
#undef FAULTLINE_NAME
};

struct KernelInfo {
  const char* name;
  const char* group;  // of groups/: the code object that holds it
  std::size_t args_bytes;
};
std::span<const KernelInfo> kernel_infos();  // in the order of Kernel

/// What bounds a kernel from below: docs/kernels.md, "Rooflines", names the sources. Zero: unknown.
struct DeviceLimits {
  double fp8_flops = 0, bf16_flops = 0;  // dense, per second
  double memory_bytes = 0;               // per second
  int compute_units = 1;
};

/// A captured sequence of launches; belongs to the device that made it.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual std::size_t node_count() const = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual std::string name() const = 0;  // e.g. "cpu x86-64-v4", "gfx942 AMD Instinct MI300X"
  virtual Fp8Format fp8_format() const = 0;
  virtual DeviceLimits limits() const = 0;

  virtual Outcome<void*> allocate(std::size_t bytes) = 0;
  /// Memory that the host and the device both reach, for flags and alive masks. Same address on both.
  virtual Outcome<void*> allocate_shared(std::size_t bytes) = 0;
  virtual void release(void* memory) = 0;
  virtual Outcome<> copy_in(void* device, const void* host, std::size_t bytes) = 0;
  virtual Outcome<> copy_out(void* host, const void* device, std::size_t bytes) = 0;
  virtual Outcome<> fill(void* device, std::uint8_t byte, std::size_t bytes) = 0;
  virtual Outcome<> synchronize() = 0;

  /// Fails when args_bytes is not the kernel's, or a grid size is negative. An empty grid does nothing.
  virtual Outcome<> launch(Kernel kernel, const Grid& grid, const void* args, std::size_t args_bytes) = 0;
  template <class Args>
  Outcome<> launch(Kernel kernel, const Grid& grid, const Args& args) {
    return launch(kernel, grid, &args, sizeof args);
  }

  /// Between begin and end, launches are recorded, not run; allocation, copies to the host and synchronize fail.
  virtual Outcome<> begin_capture() = 0;
  virtual Outcome<std::unique_ptr<Graph>> end_capture() = 0;
  virtual Outcome<> run(Graph& graph) = 0;
  virtual bool capturing() const = 0;

  /// Device time of what ran between two marks, in nanoseconds. A mark is cheap.
  virtual Outcome<> mark(int which) = 0;  // 0 or 1
  virtual Outcome<double> nanoseconds_between_marks() = 0;
};

/// Device memory with an owner.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, std::size_t bytes,
         bool shared = false);  // throws std::runtime_error when the device has no memory
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::size_t bytes() const { return bytes_; }
  template <class T = std::uint8_t>
  T* data() const {
    return static_cast<T*>(memory_);
  }
  template <class T>
  static Buffer of(Device& device, std::span<const T> values) {
    Buffer b(device, values.size_bytes());
    b.write(values.data(), values.size_bytes());
    return b;
  }
  template <class T>
  static Buffer of(Device& device, const std::vector<T>& values) {
    return of(device, std::span<const T>(values));
  }
  void write(const void* host, std::size_t bytes, std::size_t offset = 0);
  template <class T>
  std::vector<T> read() const {
    std::vector<T> out(bytes_ / sizeof(T));
    read_into(out.data(), out.size() * sizeof(T));
    return out;
  }
  void read_into(void* host, std::size_t bytes) const;

 private:
  Device* device_ = nullptr;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Throws std::runtime_error with the failure's text; for callers that have no way on.
void require(const Outcome<>& outcome);

enum class CpuLevel : std::uint8_t { portable, v2, v3, v4 };
const char* name(CpuLevel level);
/// The levels this binary holds and this machine runs, best last.
std::vector<CpuLevel> cpu_levels();
std::unique_ptr<Device> make_cpu_device();
std::unique_ptr<Device> make_cpu_device(CpuLevel level);  // throws std::invalid_argument when the machine lacks it

/// The first GPU that can run our code, else why there is none: no library, no device, or a device of another
/// architecture.
Outcome<std::unique_ptr<Device>> open_gpu(int ordinal = 0);

/// "auto" (a GPU, else the CPU), "gpu", "cpu", "cpu:v3". Throws std::invalid_argument for another word,
/// std::runtime_error when "gpu" is asked for and there is none.
std::unique_ptr<Device> open_device(const std::string& which);

}  // namespace faultline::kernels
