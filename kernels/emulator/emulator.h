// Runs the gfx942 implementation of the tile layer on the CPU, for tests: the same index arithmetic, LDS traffic and
// barriers that the GPU will run. 256 fibers make a block, 64 of them a wave. One thread of the host at a time uses it.
//
// What it does beyond running: the order of lanes and of waves is shuffled by the seed anew at every barrier; LDS
// starts as NaN (0x80 for bytes, all ones for the rest); LDS indices are checked; a launch fails when fibers wait at
// different barriers or wave operations, or when some end while others wait; the FP8 conversion is the hardware's,
// which does not saturate. Faults can be planted, so that tests show that they would be noticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace faultline::kernels::emulator {

inline constexpr int kBlockThreads = 256;
inline constexpr int kWaveLanes = 64;
inline constexpr std::size_t kLdsLimit = 65536;  // bytes of a workgroup on gfx942

struct Planted {
  bool swapped_accumulator_rows = false;  // matrix results with two rows of each fragment exchanged
  int missing_barrier = -1;               // the n-th barrier of every block does nothing
  int missing_wave_sync = -1;             // the n-th meeting of every wave's lanes that moves no data does nothing
  bool short_tail = false;                // each(n) stops at n - 1
  bool no_clamp = false;                  // the clamp before FP8 conversion does nothing
};
Planted& planted();

/// How MFMA adds. chain: products one after the other in the order of K, each sum rounded to nearest; what the CPU
/// does. cdna3: as was found out about the hardware (cdna3.h); for tests of what that changes.
enum class Arithmetic : std::uint8_t { chain, cdna3 };
Arithmetic& arithmetic();

/// Why a launch stopped; `what` names the block, the lanes and what they waited for.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct LaunchStatistics {
  std::size_t lds_bytes = 0;   // of the arrays that the kernel used
  std::uint64_t barriers = 0;  // of all blocks
  std::uint64_t switches = 0;  // fiber switches
};

/// Runs `body` once for each thread of each block. Throws Fault.
LaunchStatistics launch(int grid_x, int grid_y, int grid_z, std::uint64_t seed, const std::function<void()>& body);

// --- below: what simt_emulator.h calls from inside a fiber ---

int thread_index();
int block_coordinate(int axis);
/// `site` tells barriers apart; all fibers of a block must come to the same one.
void block_barrier();
/// Exchange area of the calling lane's wave for the wave operation under way: 64 slots of 128 bytes, two sets in turn.
void* wave_slot(int lane);
/// Waits for the wave; the last lane to come runs `collective` on the slots, if given.
void wave_meet(void (*collective)(void* slots));
/// wave_meet without a collective.
void wave_sync();
/// To be called when the calling lane has read its slot: its next operation uses the other set, so that a lane that
/// runs ahead does not overwrite what its neighbours have still to read.
void next_set();
void register_lds(void* memory, std::size_t bytes, std::size_t element);
/// Takes the text over: the calling fiber is abandoned, what its stack owns is never freed.
[[noreturn]] void fail(std::string&& why);

}  // namespace faultline::kernels::emulator
