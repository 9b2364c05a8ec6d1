#include "kernels/emulator/emulator.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/emulator/fiber.h"

namespace faultline::kernels::emulator {
namespace {

constexpr int kWaves = kBlockThreads / kWaveLanes;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 512 << 10;
#else
constexpr std::size_t kStackBytes = 256 << 10;
#endif
constexpr std::size_t kSlotBytes = 128;

enum class Wait : std::uint8_t { running, wave, block, done };

struct Fiber {
  Context context;
  Wait wait = Wait::running;
  const void* site = nullptr;  // where it waits
  int set = 0;                 // which of the two exchange areas its next wave operation uses
  int barriers = 0;            // that it has come to in this block
  int wave_syncs = 0;
};

struct Wave {
  std::array<int, kWaveLanes> order{};
  int position = 0;  // index into order of the lane that runs
  bool at_barrier = false;
  alignas(64) std::array<std::array<char, kSlotBytes * kWaveLanes>, 2> slots{};
};

struct Lds {
  void* memory;
  std::size_t bytes;
  std::size_t element;
};

struct Machine {
  Context main;
  std::array<Fiber, kBlockThreads> fibers;
  std::array<Wave, kWaves> waves;
  std::array<int, kWaves> wave_order{};
  int current = 0;
  int block[3] = {0, 0, 0};
  std::uint64_t random = 1;
  const std::function<void()>* body = nullptr;
  std::vector<Lds> lds;
  std::string error;
  LaunchStatistics statistics;
  char* stacks = nullptr;
};

Machine& machine() {
  static Machine m;
  return m;
}

std::uint64_t next_random(std::uint64_t& state) {  // splitmix64, Steele et al. 2014
  std::uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

template <std::size_t N>
void shuffle(std::array<int, N>& order, std::uint64_t& random) {
  for (std::size_t i = N - 1; i > 0; --i) std::swap(order[i], order[next_random(random) % (i + 1)]);
}

void reshuffle(Machine& m) {
  shuffle(m.wave_order, m.random);
  for (Wave& wave : m.waves) {
    shuffle(wave.order, m.random);
    wave.position = 0;
    wave.at_barrier = false;
  }
}

void run(Machine& m, int thread) {
  const int from = m.current;
  if (thread == from) return;
  m.current = thread;
  ++m.statistics.switches;
  switch_to(m.fibers[from].context, m.fibers[thread].context);
}

int thread_at(const Machine& m, int wave, int position) { return wave * kWaveLanes + m.waves[wave].order[position]; }

const char* name(Wait wait) {
  switch (wait) {
    case Wait::running: return "running";
    case Wait::wave: return "a wave operation";
    case Wait::block: return "a barrier";
    case Wait::done: return "the end";
  }
  return "";
}

// The running fiber has set its wait. Continues the next lane of its wave that has not come; when all have, checks that
// they wait for the same thing and lets them go. Returns when the running fiber may go on.
void meet(Machine& m, void (*collective)(void*), void* slots) {
  const int self = m.current;
  const int w = self / kWaveLanes;
  Wave& wave = m.waves[w];
  if (++wave.position < kWaveLanes) {
    run(m, thread_at(m, w, wave.position));
    return;
  }
  wave.position = 0;
  const Fiber& last = m.fibers[self];
  for (int l = 0; l < kWaveLanes; ++l) {
    const Fiber& f = m.fibers[w * kWaveLanes + l];
    if (f.wait != last.wait || f.site != last.site) {
      fail("lanes of wave " + std::to_string(w) + " part: lane " + std::to_string(l) + " waits for " + name(f.wait) +
           ", lane " + std::to_string(self % kWaveLanes) + " for " + name(last.wait) +
           (f.wait == last.wait ? " at another place" : ""));
    }
  }
  if (last.wait == Wait::wave) {
    if (collective != nullptr) collective(slots);
    for (int l = 0; l < kWaveLanes; ++l) m.fibers[w * kWaveLanes + l].wait = Wait::running;
    run(m, thread_at(m, w, 0));
    return;
  }
  // The whole wave stands at a barrier or at the end.
  wave.at_barrier = true;
  for (const int other : m.wave_order) {
    if (!m.waves[other].at_barrier) {
      run(m, thread_at(m, other, 0));
      return;
    }
  }
  for (int t = 0; t < kBlockThreads; ++t) {
    const Fiber& f = m.fibers[t];
    if (f.wait != last.wait || f.site != last.site) {
      fail("waves part: wave " + std::to_string(t / kWaveLanes) + " waits for " + name(f.wait) + ", wave " +
           std::to_string(w) + " for " + name(last.wait) + (f.wait == last.wait ? " at another place" : ""));
    }
  }
  if (last.wait == Wait::done) {
    switch_to(m.fibers[self].context, m.main);
    return;
  }
  for (Fiber& f : m.fibers) f.wait = Wait::running;
  ++m.statistics.barriers;
  reshuffle(m);
  run(m, thread_at(m, m.wave_order[0], 0));
}

void fiber_main() {
  Machine& m = machine();
  arrived(m.fibers[m.current].context, &m.main);
  (*m.body)();
  Fiber& self = m.fibers[m.current];
  self.wait = Wait::done;
  self.site = nullptr;
  meet(m, nullptr, nullptr);
  __builtin_trap();  // a finished fiber is never continued
}

void fill_nan(const Lds& lds) { std::memset(lds.memory, lds.element == 1 ? 0x80 : 0xff, lds.bytes); }

void run_block(Machine& m) {
  for (const Lds& lds : m.lds) fill_nan(lds);
  for (int t = 0; t < kBlockThreads; ++t) {
    Fiber& f = m.fibers[t];
    f.wait = Wait::running;
    f.set = 0;
    f.barriers = f.wave_syncs = 0;
    // Coloured, so that the stacks do not share cache sets.
    char* stack = m.stacks + static_cast<std::size_t>(t) * kStackBytes;
    prepare(f.context, stack, kStackBytes - static_cast<std::size_t>(t % 32) * 64, fiber_main);
  }
  reshuffle(m);
  m.current = thread_at(m, m.wave_order[0], 0);
  switch_to(m.main, m.fibers[m.current].context);
}

}  // namespace

Planted& planted() {
  static Planted p;
  return p;
}

Arithmetic& arithmetic() {
  static Arithmetic a = Arithmetic::chain;
  return a;
}

LaunchStatistics launch(int grid_x, int grid_y, int grid_z, std::uint64_t seed, const std::function<void()>& body) {
  Machine& m = machine();
  if (m.stacks == nullptr) {
    void* memory = mmap(nullptr, kStackBytes * kBlockThreads, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw Fault("no memory for the fibers' stacks");
    m.stacks = static_cast<char*>(memory);
  }
  for (int i = 0; i < kWaves; ++i) m.wave_order[i] = i;
  for (Wave& wave : m.waves)
    for (int l = 0; l < kWaveLanes; ++l) wave.order[l] = l;
  m.random = seed;
  m.body = &body;
  m.lds.clear();
  m.error.clear();
  m.statistics = {};
  for (m.block[2] = 0; m.block[2] < grid_z; ++m.block[2])
    for (m.block[1] = 0; m.block[1] < grid_y; ++m.block[1])
      for (m.block[0] = 0; m.block[0] < grid_x; ++m.block[0]) {
        run_block(m);
        if (!m.error.empty()) throw Fault(m.error);
      }
  for (const Lds& lds : m.lds) m.statistics.lds_bytes += lds.bytes;
  if (m.statistics.lds_bytes > kLdsLimit) {
    throw Fault("the kernel uses " + std::to_string(m.statistics.lds_bytes) + " bytes of LDS, the limit is 65536");
  }
  return m.statistics;
}

int thread_index() { return machine().current; }
int block_coordinate(int axis) { return machine().block[axis]; }

__attribute__((noinline)) void block_barrier() {
  Machine& m = machine();
  Fiber& self = m.fibers[m.current];
  if (self.barriers++ == planted().missing_barrier) return;
  self.wait = Wait::block;
  self.site = __builtin_return_address(0);
  meet(m, nullptr, nullptr);
}

void* wave_slot(int lane) {
  Machine& m = machine();
  Wave& wave = m.waves[m.current / kWaveLanes];
  return wave.slots[m.fibers[m.current].set].data() + static_cast<std::size_t>(lane) * kSlotBytes;
}

__attribute__((noinline)) void wave_meet(void (*collective)(void*)) {
  Machine& m = machine();
  const int thread = m.current;
  Fiber& self = m.fibers[thread];
  self.wait = Wait::wave;
  self.site = __builtin_return_address(0);
  Wave& wave = m.waves[thread / kWaveLanes];
  meet(m, collective, wave.slots[self.set].data());
}

__attribute__((noinline)) void wave_sync() {
  Machine& m = machine();
  Fiber& self = m.fibers[m.current];
  if (self.wave_syncs++ == planted().missing_wave_sync) return;
  self.wait = Wait::wave;
  self.site = __builtin_return_address(0);
  meet(m, nullptr, nullptr);
}

void next_set() {
  Machine& m = machine();
  m.fibers[m.current].set ^= 1;
}

void register_lds(void* memory, std::size_t bytes, std::size_t element) {
  Machine& m = machine();
  for (const Lds& lds : m.lds)
    if (lds.memory == memory) return;
  m.lds.push_back({memory, bytes, element});
  fill_nan(m.lds.back());
}

void fail(std::string&& why) {
  Machine& m = machine();
  m.error = "block (" + std::to_string(m.block[0]) + ", " + std::to_string(m.block[1]) + ", " +
            std::to_string(m.block[2]) + "): ";
  m.error += why;
  std::string().swap(why);
  switch_to(m.fibers[m.current].context, m.main);
  __builtin_trap();
}

}  // namespace faultline::kernels::emulator
