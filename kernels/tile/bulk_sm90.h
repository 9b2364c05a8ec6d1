// Hopper's copy engine and the barriers in shared memory that count its bytes. Addresses are those of shared_address.
// Source: PTX ISA 8, "mbarrier", "cp.async.bulk", "cp.async.bulk.tensor".
#pragma once

namespace faultline::kernels::sm90 {

/// A barrier's phase ends when `count` threads have arrived and all expected bytes are there.
FAULTLINE_DEV void barrier_start(std::uint32_t barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
/// Makes started barriers known to the copy engine; a barrier of all threads follows.
FAULTLINE_DEV void barriers_started() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
FAULTLINE_DEV void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives and makes the phase wait for `bytes` of copies as well.
FAULTLINE_DEV void barrier_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Arrives once this thread's copy_async so far have landed.
FAULTLINE_DEV void barrier_arrive_after_copies(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
/// Waits for the end of the phase of this parity (0 first).
FAULTLINE_DEV void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{ .reg .pred done; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra AGAIN; }" ::"r"(
          barrier),
      "r"(parity)
      : "memory");
}
/// Copies the box of TallLaunch::rows that starts at byte x of row y.
FAULTLINE_DEV void row_box(std::uint32_t to, const void* map, int x, int y, int batch, std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::
          "r"(to),
      "l"(map), "r"(x), "r"(y), "r"(batch), "r"(barrier)
      : "memory");
}
/// Copies the box of TallLaunch::weights of one step of K and 8 groups of 16 columns.
FAULTLINE_DEV void weight_box(std::uint32_t to, const void* map, int step, int group, int batch,
                              std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(to),
      "l"(map), "r"(0), "r"(step), "r"(group), "r"(batch), "r"(barrier)
      : "memory");
}
/// The registers of each thread of this warpgroup from here on.
template <int kCount>
FAULTLINE_DEV void registers_fewer() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
FAULTLINE_DEV void registers_more() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
/// A barrier of the first `threads` threads of a block alone.
template <int kId, int kCount>
FAULTLINE_DEV void sync_some() {
  asm volatile("bar.sync %0, %1;" ::"n"(kId), "n"(kCount) : "memory");
}
/// Writes four 8x8 matrices of 16-bit elements turned; lane i gives the address of row i % 8 of matrix i / 8.
FAULTLINE_DEV void store_turned(std::uint32_t address, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b),
               "r"(c), "r"(d)
               : "memory");
}
/// Two bf16 in a word, low first.
FAULTLINE_DEV std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

}  // namespace faultline::kernels::sm90
