// The GPU code that this binary carries, and what its metadata says about each kernel.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace faultline::kernels {

struct CodeObject {
  const char* group;
  std::span<const std::uint8_t> bytes;
};

/// Empty when the build had no compiler for the target.
std::span<const CodeObject> gfx942_code();
std::span<const CodeObject> sm_90_code();

/// From the AMDGPU metadata note (code object v5).
struct KernelResources {
  std::string name;  // without the fl_ prefix
  int vgprs = 0;     // all of them, accumulation registers included
  int agprs = 0;
  int sgprs = 0;
  int lds_bytes = 0;
  int scratch_bytes = 0;
  int vgpr_spills = 0, sgpr_spills = 0;

  /// Waves of this kernel that one SIMD of CDNA3 holds: 512 registers a lane, in granules of 8, at most 8 waves; and
  /// what LDS (64 KiB a compute unit, blocks of 4 waves over 4 SIMDs) allows. Source: AMD Instinct MI300 ISA reference,
  /// "Register allocation"; LLVM AMDGPU usage, "Code object v5 metadata".
  int waves_per_simd() const;
};

/// Kernels of one gfx942 code object. Empty when the bytes are not such an object; never reads outside them.
std::vector<KernelResources> read_resources(std::span<const std::uint8_t> object);

}  // namespace faultline::kernels
