#include "kernels/runtime/device.h"

#include <stdexcept>

namespace faultline::kernels {

std::span<const KernelInfo> kernel_infos() {
  static constexpr KernelInfo infos[] = {
#define FAULTLINE_GEMM(name, Args) {#name, "gemm", sizeof(Args)},
#define FAULTLINE_ATTENTION(name, Args) {#name, "attention", sizeof(Args)},
#define FAULTLINE_MOE(name, Args) {#name, "moe", sizeof(Args)},
#define FAULTLINE_ROWS(name, Args) {#name, "rows", sizeof(Args)},
      // in the order of FAULTLINE_KERNELS_ALL
      FAULTLINE_KERNELS_GEMM(FAULTLINE_GEMM) FAULTLINE_KERNELS_ATTENTION(FAULTLINE_ATTENTION)
          FAULTLINE_KERNELS_MOE(FAULTLINE_MOE) FAULTLINE_KERNELS_ROWS(FAULTLINE_ROWS)
#undef FAULTLINE_GEMM
#undef FAULTLINE_ATTENTION
#undef FAULTLINE_MOE
#undef FAULTLINE_ROWS
  };
  return infos;
}

void require(const Outcome<>& outcome) {
  if (!outcome) throw std::runtime_error(outcome.failure().text());
}

Buffer::Buffer(Device& device, std::size_t bytes, bool shared) : device_(&device), bytes_(bytes) {
  auto memory = shared ? device.allocate_shared(bytes) : device.allocate(bytes);
  if (!memory) throw std::runtime_error(memory.failure().text());
  memory_ = memory.value();
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      memory_(std::exchange(other.memory_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    if (memory_ != nullptr) device_->release(memory_);
    device_ = std::exchange(other.device_, nullptr);
    memory_ = std::exchange(other.memory_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

Buffer::~Buffer() {
  if (memory_ != nullptr) device_->release(memory_);
}

void Buffer::write(const void* host, std::size_t bytes, std::size_t offset) {
  if (offset > bytes_ || bytes > bytes_ - offset) throw std::out_of_range("Buffer::write past the end");
  if (bytes > 0) require(device_->copy_in(data<std::uint8_t>() + offset, host, bytes));
}

void Buffer::read_into(void* host, std::size_t bytes) const {
  if (bytes > bytes_) throw std::out_of_range("Buffer::read_into past the end");
  if (bytes > 0) require(device_->copy_out(host, memory_, bytes));
}

std::unique_ptr<Device> open_device(const std::string& which) {
  if (which == "cpu") return make_cpu_device();
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::v2, CpuLevel::v3, CpuLevel::v4})
    if (which == std::string("cpu:") + kernels::name(level)) return make_cpu_device(level);
  if (which != "auto" && which != "gpu") {
    throw std::invalid_argument("unknown device '" + which +
                                "'; known: auto, gpu, cpu, cpu:v2, cpu:v3, cpu:v4, cpu:portable");
  }
  auto gpu = open_gpu();
  if (gpu) return std::move(gpu.value());
  if (which == "gpu") throw std::runtime_error(gpu.failure().text());
  return make_cpu_device();
}

}  // namespace faultline::kernels
