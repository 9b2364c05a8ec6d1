// Descriptors that device code writes for an mlx5 NIC, run by the emulator, against rdma-core's own functions for the
// same queue.
#include <cstring>
#include <vector>

#include "kernels/emulator/emulator.h"

#define FAULTLINE_TILE_EMULATOR 1
#include "kernels/tile/tile.h"

#include "kernels/ops/rdma_write.h"
#include "support.h"

#if __has_include(<infiniband/mlx5dv.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wconversion"
#include <infiniband/mlx5dv.h>
#pragma GCC diagnostic pop
#define FAULTLINE_HAS_MLX5DV 1
#endif

namespace faultline::kernels {
namespace {

constexpr std::uint32_t kSlots = 64;

struct Nic {
  std::vector<std::uint32_t> ring = std::vector<std::uint32_t>(kSlots * 16, 0xdeadbeef);
  std::uint32_t record = 0;
  std::uint64_t doorbell = 0;
  std::uint32_t posted = 0;
  RdmaQueue queue() { return {ring.data(), &record, &doorbell, &posted, kSlots, 0x1234ab}; }
};

std::vector<RdmaWrite> some_writes(std::uint32_t count) {
  std::vector<RdmaWrite> all;
  for (std::uint32_t i = 0; i < count; ++i) {
    all.push_back({0x7f00'1234'5000ULL + i * 4096, 0x7e11'0000'8000ULL + i * 9000, 0x1100 + i, 0x2200 + i, 7168 + i,
                   0xc0ffee00 + i, i % 3 == 0 ? 1U : 0U});
  }
  return all;
}

void post(Nic& nic, const std::vector<RdmaWrite>& writes, std::uint64_t seed) {
  const RdmaWriteArgs args{nic.queue(), writes.data(), static_cast<std::uint32_t>(writes.size())};
  emulator::launch(1, 1, 1, seed, [&] { emulated::rdma_write(emulated::Block{}, args); });
}

#ifdef FAULTLINE_HAS_MLX5DV
TEST(RdmaWriteByDevice, DescriptorsAreThoseOfRdmaCore) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    Nic nic;
    nic.posted = 0xffe0;  // the 16-bit index and the ring wrap on the way
    const auto writes = some_writes(50);
    post(nic, writes, seed);
    for (std::uint32_t i = 0; i < writes.size(); ++i) {
      const RdmaWrite& w = writes[i];
      const std::uint32_t index = 0xffe0 + i;
      struct {
        mlx5_wqe_ctrl_seg control;
        mlx5_wqe_raddr_seg remote;
        mlx5_wqe_data_seg data;
      } expected{};
      static_assert(sizeof expected == 48);
      const bool last = i + 1 == writes.size();
      mlx5dv_set_ctrl_seg(&expected.control, static_cast<std::uint16_t>(index),
                          w.with_notify != 0 ? MLX5_OPCODE_RDMA_WRITE_IMM : MLX5_OPCODE_RDMA_WRITE, 0, 0x1234ab,
                          last ? MLX5_WQE_CTRL_CQ_UPDATE : 0, 3, 0,
                          w.with_notify != 0 ? __builtin_bswap32(w.notify) : 0);
      expected.remote.raddr = __builtin_bswap64(w.remote);
      expected.remote.rkey = __builtin_bswap32(w.rkey);
      mlx5dv_set_data_seg(&expected.data, w.length, w.lkey, w.local);
      EXPECT_EQ(std::memcmp(nic.ring.data() + (index % kSlots) * 16, &expected, sizeof expected), 0)
          << "write " << i << " seed " << seed;
    }
  }
}
#endif

TEST(RdmaWriteByDevice, TheDoorbellTellsOfTheLastDescriptor) {
  Nic nic;
  post(nic, some_writes(10), 7);
  EXPECT_EQ(nic.posted, 10U);
  EXPECT_EQ(__builtin_bswap32(nic.record), 10U);
  std::uint64_t head = 0;
  std::memcpy(&head, nic.ring.data() + 9 * 16, sizeof head);
  EXPECT_EQ(nic.doorbell, head);
  post(nic, some_writes(5), 8);
  EXPECT_EQ(__builtin_bswap32(nic.record), 15U);
  EXPECT_EQ(nic.ring[15 * 16], 0xdeadbeefU) << "nothing behind the last one is touched";
}

TEST(RdmaWriteByDevice, AnEmptyListRingsNothing) {
  Nic nic;
  post(nic, {}, 9);
  EXPECT_EQ(nic.doorbell, 0U);
  EXPECT_EQ(nic.record, 0U);
}

}  // namespace
}  // namespace faultline::kernels
