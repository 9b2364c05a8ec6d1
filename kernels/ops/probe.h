// Probes for calibration and health, and the flags by which a captured graph meets the host proxy.
#pragma once

#include "kernels/ops/rows_args.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

FAULTLINE_DEV void probe_copy(const Block& b, const CopyArgs& p) {
  constexpr int kPiece = 4096;
  for (std::uint64_t first = static_cast<std::uint64_t>(b.x()) * kPiece; first < p.chunks;
       first += static_cast<std::uint64_t>(p.blocks) * kPiece) {
    const int here = p.chunks - first < kPiece ? static_cast<int>(p.chunks - first) : kPiece;
    b.each(here, [&](int i) { copy16(p.to + (first + i) * 16, p.from + (first + i) * 16); });
  }
}

FAULTLINE_DEV void probe_busy(const Block& b, const BusyArgs& p) {
  b.once([&] {
    std::uint32_t x = static_cast<std::uint32_t>(b.x()) + 1U;
    for (std::uint64_t i = 0; i < p.rounds; ++i) {
      x = x * 1664525U + 1013904223U;  // Numerical Recipes' generator: a chain that no compiler shortens
      if (p.stop != nullptr && (i & 255U) == 0 && load_system(p.stop) != 0) break;
    }
    p.result[b.x()] = x;
  });
}

FAULTLINE_DEV void probe_health(const Block& b, const HealthArgs& p) {
  constexpr int kRows = 64, kK = 64;
  Lds<std::uint8_t> a = Block::shared<std::uint8_t, kRows * kK, 0>();
  Lds<float> pattern = Block::shared<float, 256, 1>();
  Lds<int> wrong = Block::shared<int, 4, 2>();
  // Row i holds the value i % 8 (exact in FP8), so element (i, j) of A x A^T is kK (i % 8)(j % 8), exact in float.
  b.each(kRows * kK, [&](int e) { a[e] = to_fp8(static_cast<float>(e / kK % 8)); });
  b.each(256, [&](int i) { pattern[i] = static_cast<float>(i); });
  b.once([&] { wrong[0] = 0; });
  b.barrier();
  Acc<16, kRows> c;
  b.zero(c);
  b.template mma_rows<Fp8>(c, a, kK, &a[0], kK, kK);
  b.map(c, [&](int i, int j, float& v) {
    if (v != static_cast<float>(kK * (i % 8) * (j % 8))) atomic_add_shared(&wrong[0], 1);
  });
  b.rows(4, [&](int r, Wave w) {
    const float sum = w.sum_of(64, [&](int i) { return pattern[(r * 64 + i) ^ 85]; });
    w.once([&] {
      float expected = 0;  // sums of small integers are exact in any order
      for (int i = 0; i < 64; ++i) expected += static_cast<float>((r * 64 + i) ^ 85);
      if (sum != expected) atomic_add_shared(&wrong[0], 1);
    });
  });
  b.barrier();
  b.once([&] { p.passed[b.x()] = wrong[0] == 0 ? p.token : ~p.token; });
}

FAULTLINE_DEV void flag_store(const Block& b, const FlagArgs& p) {
  b.once([&] { store_system(p.flag, p.value); });
}
FAULTLINE_DEV void flag_wait(const Block& b, const FlagArgs& p) {
  b.once([&] {
    for (std::uint64_t i = 0; i < p.rounds; ++i) {
      if (load_system(p.flag) >= p.value) return;
      pause();
    }
    atomic_or_global(p.status, p.timeout_bit);
  });
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
