// A minimal stackful fiber: a stack and a switch. x86-64 by hand (20 ns), elsewhere ucontext.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace faultline::kernels::emulator {

struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context{};
#endif
  // for AddressSanitizer, which keeps a shadow of each stack
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_size = 0;
};

/// Prepares a context that will run entry() on the given stack. entry must never return.
void prepare(Context& context, void* stack, std::size_t bytes, void (*entry)());
/// Saves the running code in `from` and continues `to`.
void switch_to(Context& from, Context& to);
/// To be called first by entry(): completes the switch for AddressSanitizer. `from` is whoever switched here.
void arrived(Context& self, Context* from);

}  // namespace faultline::kernels::emulator
