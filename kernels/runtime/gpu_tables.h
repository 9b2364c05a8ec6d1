// The functions that we take from the GPU libraries at run time, with our own declarations: no GPU header is needed to
// build. tests/kernels/hip_table_test.cpp compares the HIP list with Debian's headers at compile time. Only functions
// whose binary interface did not change between HIP 5.2 and 7 are here: not hipGetDeviceProperties, not
// hipPointerGetAttributes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace faultline::kernels {

// X(member, symbol, result, parameters)
#define FAULTLINE_HIP_TABLE(X)                                                                            \
  X(init, hipInit, int, (unsigned))                                                                       \
  X(device_count, hipGetDeviceCount, int, (int*))                                                         \
  X(set_device, hipSetDevice, int, (int))                                                                 \
  X(device_name, hipDeviceGetName, int, (char*, int, int))                                                \
  X(device_attribute, hipDeviceGetAttribute, int, (int*, int, int))                                       \
  X(error_string, hipGetErrorString, const char*, (int))                                                  \
  X(module_load, hipModuleLoadData, int, (void**, const void*))                                           \
  X(module_unload, hipModuleUnload, int, (void*))                                                         \
  X(module_function, hipModuleGetFunction, int, (void**, void*, const char*))                             \
  X(launch, hipModuleLaunchKernel, int,                                                                   \
    (void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**)) \
  X(allocate, hipMalloc, int, (void**, std::size_t))                                                      \
  X(release, hipFree, int, (void*))                                                                       \
  X(allocate_host, hipHostMalloc, int, (void**, std::size_t, unsigned))                                   \
  X(release_host, hipHostFree, int, (void*))                                                              \
  X(copy, hipMemcpyAsync, int, (void*, const void*, std::size_t, int, void*))                             \
  X(fill, hipMemsetAsync, int, (void*, int, std::size_t, void*))                                          \
  X(stream_create, hipStreamCreateWithFlags, int, (void**, unsigned))                                     \
  X(stream_destroy, hipStreamDestroy, int, (void*))                                                       \
  X(stream_synchronize, hipStreamSynchronize, int, (void*))                                               \
  X(event_create, hipEventCreateWithFlags, int, (void**, unsigned))                                       \
  X(event_destroy, hipEventDestroy, int, (void*))                                                         \
  X(event_record, hipEventRecord, int, (void*, void*))                                                    \
  X(event_synchronize, hipEventSynchronize, int, (void*))                                                 \
  X(event_elapsed, hipEventElapsedTime, int, (float*, void*, void*))                                      \
  X(capture_begin, hipStreamBeginCapture, int, (void*, int))                                              \
  X(capture_end, hipStreamEndCapture, int, (void*, void**))                                               \
  X(graph_nodes, hipGraphGetNodes, int, (void*, void**, std::size_t*))                                    \
  X(graph_instantiate, hipGraphInstantiate, int, (void**, void*, void**, char*, std::size_t))             \
  X(graph_launch, hipGraphLaunch, int, (void*, void*))                                                    \
  X(graph_exec_destroy, hipGraphExecDestroy, int, (void*))                                                \
  X(graph_destroy, hipGraphDestroy, int, (void*))

/// CUlaunchConfig and CUlaunchAttribute of cuda.h (CUDA 12 and 13).
struct CudaLaunchAttribute {
  int id = 0;
  int padding = 0;
  unsigned value[16] = {};
};
struct CudaLaunch {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  CudaLaunchAttribute* attributes;
  unsigned attribute_count;
};

// CUDA's driver API; symbols with the version suffix that cuda.h maps them to.
#define FAULTLINE_CUDA_TABLE(X)                                                                                      \
  X(init, cuInit, int, (unsigned))                                                                                   \
  X(device_count, cuDeviceGetCount, int, (int*))                                                                     \
  X(device_get, cuDeviceGet, int, (int*, int))                                                                       \
  X(device_name, cuDeviceGetName, int, (char*, int, int))                                                            \
  X(device_attribute, cuDeviceGetAttribute, int, (int*, int, int))                                                   \
  X(context_retain, cuDevicePrimaryCtxRetain, int, (void**, int))                                                    \
  X(context_release, cuDevicePrimaryCtxRelease_v2, int, (int))                                                       \
  X(context_set, cuCtxSetCurrent, int, (void*))                                                                      \
  X(error_string, cuGetErrorString, int, (int, const char**))                                                        \
  X(module_load, cuModuleLoadData, int, (void**, const void*))                                                       \
  X(module_unload, cuModuleUnload, int, (void*))                                                                     \
  X(module_function, cuModuleGetFunction, int, (void**, void*, const char*))                                         \
  X(function_attribute, cuFuncSetAttribute, int, (void*, int, int))                                                  \
  X(launch, cuLaunchKernelEx, int, (const CudaLaunch*, void*, void**, void**))                                       \
  X(allocate, cuMemAlloc_v2, int, (void**, std::size_t))                                                             \
  X(release, cuMemFree_v2, int, (void*))                                                                             \
  X(allocate_host, cuMemHostAlloc, int, (void**, std::size_t, unsigned))                                             \
  X(release_host, cuMemFreeHost, int, (void*))                                                                       \
  X(copy, cuMemcpyAsync, int, (void*, const void*, std::size_t, void*))                                              \
  X(fill, cuMemsetD8Async, int, (void*, unsigned char, std::size_t, void*))                                          \
  X(stream_create, cuStreamCreate, int, (void**, unsigned))                                                          \
  X(stream_destroy, cuStreamDestroy_v2, int, (void*))                                                                \
  X(stream_synchronize, cuStreamSynchronize, int, (void*))                                                           \
  X(event_create, cuEventCreate, int, (void**, unsigned))                                                            \
  X(event_destroy, cuEventDestroy_v2, int, (void*))                                                                  \
  X(event_record, cuEventRecord, int, (void*, void*))                                                                \
  X(event_synchronize, cuEventSynchronize, int, (void*))                                                             \
  X(event_elapsed, cuEventElapsedTime, int, (float*, void*, void*))                                                  \
  X(capture_begin, cuStreamBeginCapture_v2, int, (void*, int))                                                       \
  X(capture_end, cuStreamEndCapture, int, (void*, void**))                                                           \
  X(graph_nodes, cuGraphGetNodes, int, (void*, void**, std::size_t*))                                                \
  X(graph_instantiate, cuGraphInstantiateWithFlags, int, (void**, void*, unsigned long long))                        \
  X(graph_launch, cuGraphLaunch, int, (void*, void*))                                                                \
  X(graph_exec_destroy, cuGraphExecDestroy, int, (void*))                                                            \
  X(graph_destroy, cuGraphDestroy, int, (void*))                                                                     \
  X(tensor_map, cuTensorMapEncodeTiled, int,                                                                         \
    (void*, int, unsigned, void*, const std::uint64_t*, const std::uint64_t*, const unsigned*, const unsigned*, int, \
     int, int, int))

#define FAULTLINE_MEMBER(member, symbol, result, parameters) result(*member) parameters = nullptr;
struct HipTable {
  FAULTLINE_HIP_TABLE(FAULTLINE_MEMBER)
};
struct CudaTable {
  FAULTLINE_CUDA_TABLE(FAULTLINE_MEMBER)
};
#undef FAULTLINE_MEMBER

// hipDeviceAttribute_t of HIP 5.2 … 6.3, checked by the same test.
inline constexpr int kHipAttributeComputeMajor = 23;
inline constexpr int kHipAttributeComputeMinor = 61;
inline constexpr int kHipAttributeMultiprocessors = 63;
inline constexpr int kHipCaptureThreadLocal = 1, kHipCopyDefault = 4;
inline constexpr unsigned kHipHostPortableMapped = 3, kHipStreamNonBlocking = 1;
// CUdevice_attribute, CUfunction_attribute: CUDA driver API reference, "Data types used by CUDA driver".
inline constexpr int kCudaAttributeMultiprocessors = 16, kCudaAttributeComputeMajor = 75,
                     kCudaAttributeComputeMinor = 76;
// CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: a kernel's blocks may take their places while the kernel
// before still runs; they wait for its end themselves (FAULTLINE_KERNEL_BEGIN in tile/simt_sm90.h).
inline constexpr int kCudaLaunchOverlapping = 6;
// Values of CUtensorMapDataType, CUtensorMapSwizzle and CUtensorMapL2promotion.
inline constexpr int kCudaTensorBytes = 0, kCudaTensorWords = 4, kCudaTensorSwizzle128 = 3, kCudaTensorPromote256 = 3;
inline constexpr int kCudaFunctionDynamicShared = 8, kCudaCaptureThreadLocal = 1;
inline constexpr unsigned kCudaHostPortableMapped = 3, kCudaStreamNonBlocking = 1;

}  // namespace faultline::kernels
