#include "backend/transport/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace faultline::transport {

SharedMemory::SharedMemory(std::size_t bytes)
    : descriptor_(::memfd_create("faultline-region", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  void* at = MAP_FAILED;
  if (descriptor_ && ::ftruncate(descriptor_.get(), static_cast<off_t>(bytes)) == 0 &&
      ::fcntl(descriptor_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor_.get(), 0);
  }
  if (at == MAP_FAILED) throw std::runtime_error(std::string("no shared memory: ") + std::strerror(errno));
  bytes_ = {static_cast<std::byte*>(at), bytes};
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : descriptor_(std::move(other.descriptor_)), bytes_(std::exchange(other.bytes_, {})) {}

SharedMemory::~SharedMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

PeerMemory::PeerMemory(const Fd& descriptor) {
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0 || status.st_size <= 0) return;
  const int seals = ::fcntl(descriptor.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return;  // else reading could end in SIGBUS
  const auto size = static_cast<std::size_t>(status.st_size);
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor.get(), 0);
  if (at != MAP_FAILED) bytes_ = {static_cast<const std::byte*>(at), size};
}

PeerMemory::PeerMemory(PeerMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
PeerMemory& PeerMemory::operator=(PeerMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}
PeerMemory::~PeerMemory() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace faultline::transport
