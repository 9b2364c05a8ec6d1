#include "kernels/emulator/fiber.h"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define FAULTLINE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FAULTLINE_ASAN 1
#endif
#endif
#if defined(FAULTLINE_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace faultline::kernels::emulator {

#if defined(__x86_64__)
extern "C" void faultline_fiber_switch(void** from, void* to);
// Saves the callee-saved registers of the System V ABI; all others are dead at a call.
asm(R"(.text
.globl faultline_fiber_switch
.type faultline_fiber_switch,@function
faultline_fiber_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size faultline_fiber_switch, .-faultline_fiber_switch
)");
#endif

void prepare(Context& context, void* stack, std::size_t bytes, void (*entry)()) {
  context.stack_bottom = stack;
  context.stack_size = bytes;
  context.fake_stack = nullptr;
#if defined(FAULTLINE_ASAN)
  __asan_unpoison_memory_region(stack,
                                bytes);  // what the last fiber here left: it never returned from its first function
#endif
#if defined(__x86_64__)
  auto* top = static_cast<char*>(stack) + bytes;
  auto* words = reinterpret_cast<std::uintptr_t*>(top) - 2;
  *--words = 0;  // entry never returns; this keeps the stack aligned as after a call
  *--words = reinterpret_cast<std::uintptr_t>(entry);
  for (int i = 0; i < 6; ++i) *--words = 0;
  context.stack_pointer = words;
#else
  getcontext(&context.context);
  context.context.uc_stack.ss_sp = stack;
  context.context.uc_stack.ss_size = bytes;
  context.context.uc_link = nullptr;
  makecontext(&context.context, entry, 0);
#endif
}

void switch_to(Context& from, Context& to) {
#if defined(FAULTLINE_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_size);
#endif
#if defined(__x86_64__)
  faultline_fiber_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(FAULTLINE_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void arrived([[maybe_unused]] Context& self, [[maybe_unused]] Context* from) {
#if defined(FAULTLINE_ASAN)
  // The first fiber learns the main stack from here.
  const void* bottom = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(self.fake_stack, &bottom, &size);
  if (from != nullptr && from->stack_bottom == nullptr) {
    from->stack_bottom = bottom;
    from->stack_size = size;
  }
#endif
}

}  // namespace faultline::kernels::emulator
