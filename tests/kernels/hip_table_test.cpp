// Our declarations of HIP's functions against Debian's headers, at compile time; and what happens without a GPU.
#include <gtest/gtest.h>

#include <type_traits>

#include "kernels/runtime/code_objects.h"
#include "kernels/runtime/device.h"
#include "kernels/runtime/gpu_tables.h"
#include "support.h"

#if defined(FAULTLINE_HAS_HIP_HEADERS)
#define __HIP_PLATFORM_AMD__ 1  // NOLINT: HIP's switch
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <hip/hip_runtime_api.h>
#pragma GCC diagnostic pop
#endif

namespace faultline::kernels {
namespace {

#if defined(FAULTLINE_HAS_HIP_HEADERS)
// Two parameter types pass the same way: pointers are pointers, enumerations of 4 bytes are ints.
template <class Ours, class Theirs>
constexpr bool kSamePassing = (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) ||
                              (!std::is_pointer_v<Ours> && !std::is_pointer_v<Theirs> &&
                               sizeof(Ours) == sizeof(Theirs) &&
                               std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs>);
template <class Ours, class Theirs>
struct SameCall : std::false_type {};
template <class R, class... P, class S, class... Q>
struct SameCall<R (*)(P...), S (*)(Q...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(P) != sizeof...(Q)) {
      return false;
    } else {
      return kSamePassing<R, S> && (kSamePassing<P, Q> && ...);
    }
  }();
};
static_assert(SameCall<int (*)(void*, int), hipError_t (*)(hipStream_t, hipStreamCaptureMode)>::value);
static_assert(!SameCall<int (*)(void*, int), hipError_t (*)(hipStream_t)>::value,
              "the check notices a missing parameter");
static_assert(!SameCall<int (*)(std::size_t), hipError_t (*)(unsigned)>::value, "and one of another size");
static_assert(!SameCall<int (*)(void*), hipError_t (*)(int)>::value, "and a pointer for a number");

#define FAULTLINE_SAME(member, symbol) \
  static_assert(SameCall<decltype(HipTable::member), decltype(&::symbol)>::value, #symbol)
FAULTLINE_SAME(init, hipInit);
FAULTLINE_SAME(device_count, hipGetDeviceCount);
FAULTLINE_SAME(set_device, hipSetDevice);
FAULTLINE_SAME(device_name, hipDeviceGetName);
FAULTLINE_SAME(device_attribute, hipDeviceGetAttribute);
FAULTLINE_SAME(error_string, hipGetErrorString);
FAULTLINE_SAME(module_load, hipModuleLoadData);
FAULTLINE_SAME(module_unload, hipModuleUnload);
FAULTLINE_SAME(module_function, hipModuleGetFunction);
FAULTLINE_SAME(launch, hipModuleLaunchKernel);
FAULTLINE_SAME(release, hipFree);
FAULTLINE_SAME(release_host, hipHostFree);
FAULTLINE_SAME(copy, hipMemcpyAsync);
FAULTLINE_SAME(fill, hipMemsetAsync);
FAULTLINE_SAME(stream_create, hipStreamCreateWithFlags);
FAULTLINE_SAME(stream_destroy, hipStreamDestroy);
FAULTLINE_SAME(stream_synchronize, hipStreamSynchronize);
FAULTLINE_SAME(event_create, hipEventCreateWithFlags);
FAULTLINE_SAME(event_destroy, hipEventDestroy);
FAULTLINE_SAME(event_record, hipEventRecord);
FAULTLINE_SAME(event_synchronize, hipEventSynchronize);
FAULTLINE_SAME(event_elapsed, hipEventElapsedTime);
FAULTLINE_SAME(capture_begin, hipStreamBeginCapture);
FAULTLINE_SAME(capture_end, hipStreamEndCapture);
FAULTLINE_SAME(graph_nodes, hipGraphGetNodes);
FAULTLINE_SAME(graph_instantiate, hipGraphInstantiate);
FAULTLINE_SAME(graph_launch, hipGraphLaunch);
FAULTLINE_SAME(graph_exec_destroy, hipGraphExecDestroy);
FAULTLINE_SAME(graph_destroy, hipGraphDestroy);
// These two have C++ template overloads, so the C function is named by its type.
static_assert(std::is_same_v<decltype(static_cast<hipError_t (*)(void**, std::size_t)>(&::hipMalloc)),
                             hipError_t (*)(void**, std::size_t)>);
static_assert(SameCall<decltype(HipTable::allocate), hipError_t (*)(void**, std::size_t)>::value);
static_assert(std::is_same_v<decltype(static_cast<hipError_t (*)(void**, std::size_t, unsigned)>(&::hipHostMalloc)),
                             hipError_t (*)(void**, std::size_t, unsigned)>);
static_assert(SameCall<decltype(HipTable::allocate_host), hipError_t (*)(void**, std::size_t, unsigned)>::value);

static_assert(kHipAttributeComputeMajor == hipDeviceAttributeComputeCapabilityMajor);
static_assert(kHipAttributeComputeMinor == hipDeviceAttributeComputeCapabilityMinor);
static_assert(kHipAttributeMultiprocessors == hipDeviceAttributeMultiprocessorCount);
static_assert(kHipCaptureThreadLocal == hipStreamCaptureModeThreadLocal);
static_assert(kHipCopyDefault == hipMemcpyDefault);
static_assert(kHipHostPortableMapped == (hipHostMallocPortable | hipHostMallocMapped));
static_assert(kHipStreamNonBlocking == hipStreamNonBlocking);

TEST(HipTable, EqualsDebiansHeadersInEveryDeclaration) {
  SUCCEED() << "checked by static_assert when this file was compiled";
}
#else
TEST(HipTable, EqualsDebiansHeadersInEveryDeclaration) { GTEST_SKIP() << "libamdhip64-dev is not installed"; }
#endif

TEST(Runtime, WithoutAGpuOpeningOneSaysWhatWasLookedFor) {
  auto gpu = open_gpu();
  if (gpu) GTEST_SKIP() << "this machine has " << gpu.value()->name();
  const std::string text = gpu.failure().text();
  for (const char* library : {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libcuda.so.1"})
    EXPECT_NE(text.find(library), std::string::npos) << text;
  EXPECT_EQ(open_device("auto")->name().rfind("cpu", 0), 0U);
  EXPECT_THROW((void)open_device("gpu"), std::runtime_error);
  EXPECT_THROW((void)open_device("tpu"), std::invalid_argument);
}

TEST(Runtime, WrongArgumentsOfALaunchAreFailuresWithTheKernelsName) {
  for (const auto& device : test::all_devices()) {
    const int nothing = 0;
    auto outcome = device->launch(Kernel::gemm_fp8_m32, {1, 1, 1}, nothing);
    ASSERT_FALSE(static_cast<bool>(outcome));
    EXPECT_EQ(outcome.failure().op, "gemm_fp8_m32");
    EXPECT_FALSE(static_cast<bool>(device->launch(Kernel::health, {-1, 1, 1}, HealthArgs{nullptr, 1})));
    EXPECT_TRUE(static_cast<bool>(device->launch(Kernel::health, {0, 1, 1}, HealthArgs{nullptr, 1})))
        << "an empty grid is well";
  }
}

TEST(Runtime, AGraphReadsMemoryWhenItRunsAndRefusesAllocationAndWaiting) {
  for (const auto& device : test::all_devices()) {
    SCOPED_TRACE(device->name());
    Buffer from(*device, 4096), to(*device, 4096);
    FAULTLINE_DONE(device->fill(from.data(), 1, 4096));
    FAULTLINE_DONE(device->fill(to.data(), 0, 4096));
    EXPECT_FALSE(static_cast<bool>(device->end_capture())) << "nothing is captured yet";
    FAULTLINE_DONE(device->begin_capture());
    EXPECT_FALSE(static_cast<bool>(device->begin_capture()));
    FAULTLINE_DONE(device->launch(Kernel::copy_memory, {2, 1, 1}, CopyArgs{from.data(), to.data(), 256, 2}));
    EXPECT_FALSE(static_cast<bool>(device->allocate(16)));
    EXPECT_FALSE(static_cast<bool>(device->synchronize()));
    auto graph = device->end_capture();
    ASSERT_TRUE(static_cast<bool>(graph));
    EXPECT_EQ(graph.value()->node_count(), 1U);
    EXPECT_EQ(to.read<std::uint8_t>()[7], 0) << "capture does not run";
    FAULTLINE_DONE(device->fill(from.data(), 9, 4096));
    FAULTLINE_DONE(device->run(*graph.value()));
    FAULTLINE_DONE(device->synchronize());
    for (const auto byte : to.read<std::uint8_t>()) ASSERT_EQ(byte, 9);
  }
}

}  // namespace
}  // namespace faultline::kernels
