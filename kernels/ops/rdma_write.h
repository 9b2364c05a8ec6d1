// Work requests and doorbells written by device code, for NICs with mlx5 work queue entries: the GPU-initiated mode of
// an exchange. Layout: NVIDIA's mlx5 programmer's manual, as rdma-core's mlx5dv.h has it (control, remote address and
// data segment of 16 bytes each, big-endian). UNPROVEN: no machine of this project has such a NIC beside a GPU; the
// descriptors are compared with rdma-core's own in the emulator, the doorbell's order of writes is not observable
// there.
#pragma once

#include "kernels/ops/rdma_write_args.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

FAULTLINE_DEV std::uint32_t big_endian(std::uint32_t v) { return __builtin_bswap32(v); }

/// Fills slot `index` of the ring. `last`: asks for a completion.
FAULTLINE_DEV void write_rdma_wqe(const RdmaQueue& q, std::uint32_t index, const RdmaWrite& w, bool last) {
  constexpr std::uint32_t kWrite = 0x08, kWriteImm = 0x09;  // MLX5_OPCODE_RDMA_WRITE, MLX5_OPCODE_RDMA_WRITE_IMM
  constexpr std::uint32_t kCompletion = 2U << 2;            // MLX5_WQE_CTRL_CQ_UPDATE
  // Segments of 16 bytes; without bytes no data segment, where a length of 0 would mean 2^31.
  const std::uint32_t units = w.length == 0 ? 2 : 3;
  std::uint32_t* at = q.wqes + static_cast<std::uint64_t>(index & (q.slots - 1)) * 16;
  at[0] = big_endian((index & 0xffffU) << 8 | (w.with_notify != 0 ? kWriteImm : kWrite));
  at[1] = big_endian(q.qp_number << 8 | units);
  at[2] = big_endian(last ? kCompletion : 0);
  at[3] = w.with_notify != 0 ? big_endian(w.notify) : 0;
  at[4] = big_endian(static_cast<std::uint32_t>(w.remote >> 32));
  at[5] = big_endian(static_cast<std::uint32_t>(w.remote));
  at[6] = big_endian(w.rkey);
  at[7] = 0;
  at[8] = big_endian(w.length);
  at[9] = big_endian(w.lkey);
  at[10] = big_endian(static_cast<std::uint32_t>(w.local >> 32));
  at[11] = big_endian(static_cast<std::uint32_t>(w.local));
}

/// One block posts the whole list: threads share the descriptors, one of them rings. Descriptors must be visible before
/// the doorbell record, and that before the doorbell.
FAULTLINE_DEV void rdma_write(const Block& b, const RdmaWriteArgs& p) {
  const std::uint32_t first = *p.queue.posted;
  b.each(static_cast<int>(p.count), [&](int i) {
    const auto k = static_cast<std::uint32_t>(i);
    write_rdma_wqe(p.queue, first + k, p.writes[i], k + 1 == p.count);
  });
  b.barrier();
  b.once([&] {
    if (p.count == 0) return;
    const std::uint32_t end = first + p.count;
    *p.queue.posted = end;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);  // system scope: the NIC reads what every thread of the block wrote
    __atomic_store_n(p.queue.doorbell_record, big_endian(end & 0xffffU), __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    // The doorbell is the first eight bytes of the last descriptor, as they lie in memory.
    const std::uint32_t* at = p.queue.wqes + static_cast<std::uint64_t>((end - 1) & (p.queue.slots - 1)) * 16;
    __atomic_store_n(p.queue.doorbell, static_cast<std::uint64_t>(at[1]) << 32 | at[0], __ATOMIC_RELEASE);
  });
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
