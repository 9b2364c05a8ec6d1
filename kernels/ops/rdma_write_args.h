// What a kernel needs in order to post RDMA writes by itself: a send queue of an mlx5 NIC, mapped to the device, and
// the list of writes.
#pragma once

#include <cstdint>

namespace faultline::kernels {

/// The send queue as the provider describes it (mlx5dv_init_obj): all pointers are device-accessible. One kernel at a
/// time uses it.
struct RdmaQueue {
  std::uint32_t* wqes = nullptr;             // ring of `slots` blocks of 64 bytes
  std::uint32_t* doorbell_record = nullptr;  // the word of the send queue (dbrec[1])
  std::uint64_t* doorbell = nullptr;         // the BlueFlame register of the UAR page
  std::uint32_t* posted = nullptr;           // producer counter, kept between launches
  std::uint32_t slots = 0;                   // a power of two
  std::uint32_t qp_number = 0;
};

/// length < 2^31, from local memory under lkey to the peer's under rkey; 0: nothing but its notify.
struct RdmaWrite {
  std::uint64_t local = 0;
  std::uint64_t remote = 0;
  std::uint32_t lkey = 0;
  std::uint32_t rkey = 0;
  std::uint32_t length = 0;
  std::uint32_t notify = 0;
  std::uint32_t with_notify = 0;  // 1: the peer's receive completes with `notify`
};

struct RdmaWriteArgs {
  RdmaQueue queue;
  const RdmaWrite* writes = nullptr;
  std::uint32_t count = 0;  // at most queue.slots; the caller knows that so many slots are free
};

}  // namespace faultline::kernels
