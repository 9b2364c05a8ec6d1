// HIP and CUDA devices behind one interface. The libraries are opened at run time; a machine without them is not an
// error but a Failure that says what was looked for.
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "kernels/runtime/code_objects.h"
#include "kernels/runtime/device.h"
#include "kernels/runtime/gpu_tables.h"
#include "kernels/tile/memory_sm90.h"

namespace faultline::kernels {
namespace {

/// Stays in the process once it is open: what the HIP runtime has allocated by then it does not give back when it is
/// unloaded, and each next opening would allocate it again.
class Library {
 public:
  explicit Library(const char* name) : name_(name), handle_(dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
    if (handle_ == nullptr) {
      const char* why = dlerror();
      error_ = why != nullptr ? why : "unknown";
    }
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (handle_ != nullptr) dlclose(handle_);
  }
  bool open() const { return handle_ != nullptr; }
  const std::string& name() const { return name_; }
  const std::string& error() const { return error_; }
  template <class F>
  void find(F& function, const char* symbol, std::string& missing) const {
    void* address = dlsym(handle_, symbol);
    if (address == nullptr) missing += (missing.empty() ? "" : ", ") + std::string(symbol);
    std::memcpy(&function, &address, sizeof function);
  }

 private:
  std::string name_, error_;
  void* handle_;
};

// What differs between the two libraries, as small as it gets; everything else has the same parameters.
struct Hip {
  using Table = HipTable;
  static constexpr const char* kPrefix = "hip";
  static constexpr unsigned kHostFlags = kHipHostPortableMapped, kStreamFlags = kHipStreamNonBlocking;
  static constexpr int kCapture = kHipCaptureThreadLocal;
  static std::string error(const Table& t, int code) { return t.error_string(code); }
  static int copy(const Table& t, void* to, const void* from, std::size_t n, void* stream) {
    return t.copy(to, from, n, kHipCopyDefault, stream);
  }
  static int fill(const Table& t, void* to, std::uint8_t byte, std::size_t n, void* stream) {
    return t.fill(to, byte, n, stream);
  }
  static int instantiate(const Table& t, void** exec, void* graph) {
    return t.graph_instantiate(exec, graph, nullptr, nullptr, 0);
  }
  static void load(Library& library, Table& t, std::string& missing) {
#define FAULTLINE_FIND(member, symbol, result, parameters) library.find(t.member, #symbol, missing);
    FAULTLINE_HIP_TABLE(FAULTLINE_FIND)
  }
  static std::span<const CodeObject> code() { return gfx942_code(); }
  static constexpr const char* kTarget = "gfx942";
  static constexpr int kMajor = 9, kMinor = 4;  // gfx942 reports 9.4
  static constexpr int kAttributeMajor = kHipAttributeComputeMajor, kAttributeMinor = kHipAttributeComputeMinor;
  static constexpr int kAttributeUnits = kHipAttributeMultiprocessors;
  static constexpr Fp8Format kFormat = Fp8Format::fnuz;
  // MI300X data sheet: FP8 2614.9 and BF16 1307.4 TFLOP/s dense, 5.3 TB/s.
  static constexpr DeviceLimits kLimits{2614.9e12, 1307.4e12, 5.3e12, 304};
  static int context(const Table& t, int ordinal, int& device, void*&) {
    return device = ordinal, t.set_device(ordinal);
  }
  static void leave(const Table&, int) {}
  static int dynamic_shared(const Table&, void*, int) { return 0; }
  static int launch(const Table& t, void* function, const Grid& grid, unsigned shared_bytes, void* stream,
                    void** parameters) {
    return t.launch(function, static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z), 256, 1, 1, shared_bytes, stream, parameters, nullptr);
  }
  static constexpr bool kDynamicShared = false;
};

struct Cuda {
  using Table = CudaTable;
  static constexpr const char* kPrefix = "cu";
  static constexpr unsigned kHostFlags = kCudaHostPortableMapped, kStreamFlags = kCudaStreamNonBlocking;
  static constexpr int kCapture = kCudaCaptureThreadLocal;
  static std::string error(const Table& t, int code) {
    const char* text = nullptr;
    return t.error_string(code, &text) == 0 && text != nullptr ? text : "unknown error";
  }
  static int copy(const Table& t, void* to, const void* from, std::size_t n, void* stream) {
    return t.copy(to, from, n, stream);
  }
  static int fill(const Table& t, void* to, std::uint8_t byte, std::size_t n, void* stream) {
    return t.fill(to, byte, n, stream);
  }
  static int instantiate(const Table& t, void** exec, void* graph) { return t.graph_instantiate(exec, graph, 0); }
  static void load(Library& library, Table& t, std::string& missing) { FAULTLINE_CUDA_TABLE(FAULTLINE_FIND) }
#undef FAULTLINE_FIND
  static std::span<const CodeObject> code() { return sm_90_code(); }
  static constexpr const char* kTarget = "sm_90";
  static constexpr int kMajor = 9, kMinor = 0;
  static constexpr int kAttributeMajor = kCudaAttributeComputeMajor, kAttributeMinor = kCudaAttributeComputeMinor;
  static constexpr int kAttributeUnits = kCudaAttributeMultiprocessors;
  static constexpr Fp8Format kFormat = Fp8Format::fn;
  // H100 SXM5 data sheet: FP8 1978.9 and BF16 989.4 TFLOP/s dense, 3.35 TB/s.
  static constexpr DeviceLimits kLimits{1978.9e12, 989.4e12, 3.35e12, 132};
  static int context(const Table& t, int ordinal, int& device, void*& context) {
    if (const int code = t.device_get(&device, ordinal); code != 0) return code;
    if (const int code = t.context_retain(&context, device); code != 0) return code;
    return t.context_set(context);
  }
  static void leave(const Table& t, int device) { t.context_release(device); }
  static int dynamic_shared(const Table& t, void* function, int bytes) {
    return t.function_attribute(function, kCudaFunctionDynamicShared, bytes);
  }
  static int launch(const Table& t, void* function, const Grid& grid, unsigned shared_bytes, void* stream,
                    void** parameters) {
    CudaLaunchAttribute overlapping{kCudaLaunchOverlapping, 0, {1}};
    const CudaLaunch config{
        {static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z)},
        {256, 1, 1},
        shared_bytes,
        stream,
        &overlapping,
        1};
    return t.launch(&config, function, parameters, nullptr);
  }
  static constexpr bool kDynamicShared = true;

  /// Kernels of tall tiles (tile/tall_sm90.h): as many blocks as the device holds at once share the grid's tiles.
  static int launch_tall(const Table& t, void* function, const Grid& grid, int units, bool scaled, const GemmArgs& args,
                         void* stream) {
    sm90::TallLaunch tall{};
    tall.x = grid.x, tall.y = grid.y, tall.z = grid.z, tall.scaled = scaled ? 1 : 0, tall.parallel = args.parallel;
    const auto batches = static_cast<std::uint64_t>(args.parallel != 0 ? 1 : grid.z),
               k = static_cast<std::uint64_t>(args.k_bytes), lda = static_cast<std::uint64_t>(args.lda);
    const unsigned ones[] = {1, 1, 1, 1};
    {
      const std::uint64_t sizes[] = {k, static_cast<std::uint64_t>(args.m), batches};
      const std::uint64_t strides[] = {lda, batches > 1 ? args.a_stride : lda};
      const unsigned box[] = {kStepBytes, 128, 1};
      if (const int code = t.tensor_map(tall.rows, kCudaTensorBytes, 3, const_cast<std::uint8_t*>(args.a), sizes,
                                        strides, box, ones, 0, kCudaTensorSwizzle128, kCudaTensorPromote256, 0);
          code != 0)
        return code;
    }
    {
      const std::uint64_t group = 16 * k;  // bytes of 16 columns: steps of 2048
      const std::uint64_t sizes[] = {256, k / kStepBytes, static_cast<std::uint64_t>(grid.y) * (kTileColumns / 16),
                                     batches};
      const std::uint64_t strides[] = {2048, group, batches > 1 ? args.w_stride : group};
      const unsigned box[] = {256, 1, kTileColumns / 16, 1};
      if (const int code = t.tensor_map(tall.weights, kCudaTensorWords, 4, const_cast<std::uint8_t*>(args.w), sizes,
                                        strides, box, ones, 0, 0, kCudaTensorPromote256, 0);
          code != 0)
        return code;
    }
    const long tiles = static_cast<long>(grid.x) * grid.y * grid.z;
    const auto blocks = static_cast<unsigned>(std::min<long>(tiles, units));
    CudaLaunchAttribute overlapping{kCudaLaunchOverlapping, 0, {1}};
    const CudaLaunch config{{blocks, 1, 1}, {sm90::kTallThreads, 1, 1}, sm90::kTallBytes, stream, &overlapping, 1};
    void* parameters[] = {const_cast<GemmArgs*>(&args), &tall};
    return t.launch(&config, function, parameters, nullptr);
  }
};

constexpr bool is_tall(Kernel kernel) {
  return kernel == Kernel::gemm_fp8_m128 || kernel == Kernel::gemm_fp8_blocks_m128 || kernel == Kernel::gemm_bf16_m128;
}

// Dynamic shared memory of the kernels that have some on sm_90; the sizes follow from the tile shapes in groups/*.cpp.
constexpr unsigned dynamic_bytes(Kernel kernel) {
  using namespace sm90;
  switch (kernel) {
    case Kernel::mla_decode_fp8: return kAttentionBytes<16, 576, 0, kHeldParts>;
    case Kernel::mla_decode_bf16: return kAttentionBytes<16, 1152, 0>;
    case Kernel::mla_prefill_bf16: return kAttentionBytes<64, 384, 256>;
    case Kernel::gqa_decode_bf16: return kAttentionBytes<16, 256, 256>;
    case Kernel::gqa_prefill_bf16: return kAttentionBytes<64, 256, 256>;
    case Kernel::gemm_fp8_m32:
    case Kernel::gemm_fp8_blocks_m32:
    case Kernel::gemm_bf16_m32:
    case Kernel::moe_down_m32: return kStreamAllBytes<32>;
    case Kernel::gemm_fp8_m64:
    case Kernel::gemm_fp8_blocks_m64:
    case Kernel::gemm_bf16_m64:
    case Kernel::moe_down_m64: return kStreamAllBytes<64>;
    case Kernel::gemm_fp8_m128:
    case Kernel::gemm_fp8_blocks_m128:
    case Kernel::gemm_bf16_m128: return kTallBytes;
    case Kernel::moe_gate_up_m32: return kStreamAllBytes<32> + 32 * 129 * 4;
    case Kernel::moe_gate_up_m64: return kStreamAllBytes<64> + 64 * 129 * 4;
    default: return 0;
  }
}

template <class Api>
class GpuDevice : public Device {
 public:
  GpuDevice(std::unique_ptr<Library> library, const typename Api::Table& table)
      : library_(std::move(library)), t_(table) {}
  ~GpuDevice() override {
    if (stream_ != nullptr) t_.stream_synchronize(stream_);
    for (void* event : events_)
      if (event != nullptr) t_.event_destroy(event);
    for (void* module : modules_) t_.module_unload(module);
    if (stream_ != nullptr) t_.stream_destroy(stream_);
    if (entered_) Api::leave(t_, device_);
  }

  Outcome<> start(int ordinal) {
    if (auto done = check("context", Api::context(t_, ordinal, device_, context_)); !done) return done;
    entered_ = true;
    std::array<char, 256> text{};
    if (auto done = check("DeviceGetName", t_.device_name(text.data(), static_cast<int>(text.size()) - 1, device_));
        !done)
      return done;
    int major = 0, minor = 0;
    if (auto done = check("DeviceGetAttribute", t_.device_attribute(&major, Api::kAttributeMajor, device_)); !done)
      return done;
    if (auto done = check("DeviceGetAttribute", t_.device_attribute(&minor, Api::kAttributeMinor, device_)); !done)
      return done;
    if (auto done = check("DeviceGetAttribute", t_.device_attribute(&units_, Api::kAttributeUnits, device_)); !done)
      return done;
    name_ = std::string(Api::kTarget) + " " + text.data();
    if (major != Api::kMajor || minor != Api::kMinor) {
      return Failure{"open_gpu", 0,
                     std::string(text.data()) + " has architecture " + std::to_string(major) + "." +
                         std::to_string(minor) + ", this binary's code is for " + Api::kTarget + " (" +
                         std::to_string(Api::kMajor) + "." + std::to_string(Api::kMinor) + ")"};
    }
    if (Api::code().empty())
      return Failure{"open_gpu", 0, std::string("this binary was built without code for ") + Api::kTarget};
    if (auto done = check("StreamCreate", t_.stream_create(&stream_, Api::kStreamFlags)); !done) return done;
    for (void*& event : events_)
      if (auto done = check("EventCreate", t_.event_create(&event, 0)); !done) return done;
    functions_.assign(kernel_infos().size(), nullptr);
    for (const CodeObject& object : Api::code()) {
      void* module = nullptr;
      if (auto done = check("ModuleLoadData", t_.module_load(&module, object.bytes.data())); !done) return done;
      modules_.push_back(module);
      for (std::size_t i = 0; i < functions_.size(); ++i) {
        const KernelInfo& info = kernel_infos()[i];
        if (std::strcmp(info.group, object.group) != 0) continue;
        const std::string symbol = std::string("fl_") + info.name;
        if (auto done = check("ModuleGetFunction", t_.module_function(&functions_[i], module, symbol.c_str())); !done)
          return done;
      }
    }
    for (std::size_t i = 0; i < functions_.size(); ++i) {
      if (functions_[i] == nullptr)
        return Failure{"open_gpu", 0,
                       std::string("kernel ") + kernel_infos()[i].name + " is missing from the code object"};
      const unsigned bytes = Api::kDynamicShared ? dynamic_bytes(static_cast<Kernel>(i)) : 0;
      if (bytes == 0) continue;
      if (auto done = check("FuncSetAttribute", Api::dynamic_shared(t_, functions_[i], static_cast<int>(bytes))); !done)
        return done;
    }
    return Done{};
  }

  std::string name() const override { return name_; }
  Fp8Format fp8_format() const override { return Api::kFormat; }
  DeviceLimits limits() const override {
    DeviceLimits limits = Api::kLimits;
    limits.compute_units = units_;
    return limits;
  }

  Outcome<void*> allocate(std::size_t bytes) override {
    if (capturing_) return Failure{"allocate", 0, "not allowed while a graph is captured"};
    void* memory = nullptr;
    if (auto done = check("Malloc", t_.allocate(&memory, bytes + 64)); !done) return done.failure();
    return memory;
  }
  Outcome<void*> allocate_shared(std::size_t bytes) override {
    if (capturing_) return Failure{"allocate_shared", 0, "not allowed while a graph is captured"};
    void* memory = nullptr;
    if (auto done = check("HostMalloc", t_.allocate_host(&memory, bytes + 64, Api::kHostFlags)); !done)
      return done.failure();
    shared_[memory] = true;
    return memory;
  }
  void release(void* memory) override {
    if (shared_.erase(memory) > 0) {
      t_.release_host(memory);
    } else {
      t_.release(memory);
    }
  }
  Outcome<> copy_in(void* device, const void* host, std::size_t bytes) override {
    if (auto done = refuse("copy_in"); !done) return done;
    if (auto done = check("MemcpyAsync", Api::copy(t_, device, host, bytes, stream_)); !done) return done;
    return synchronize();  // the caller may free `host` at once
  }
  Outcome<> copy_out(void* host, const void* device, std::size_t bytes) override {
    if (auto done = refuse("copy_out"); !done) return done;
    if (auto done = check("MemcpyAsync", Api::copy(t_, host, device, bytes, stream_)); !done) return done;
    return synchronize();
  }
  Outcome<> fill(void* device, std::uint8_t byte, std::size_t bytes) override {
    if (auto done = refuse("fill"); !done) return done;
    return check("MemsetAsync", Api::fill(t_, device, byte, bytes, stream_));
  }
  Outcome<> synchronize() override {
    if (auto done = refuse("synchronize"); !done) return done;
    return check("StreamSynchronize", t_.stream_synchronize(stream_));
  }

  using Device::launch;
  Outcome<> launch(Kernel kernel, const Grid& grid, const void* args, std::size_t args_bytes) override {
    const KernelInfo& info = kernel_infos()[static_cast<std::size_t>(kernel)];
    if (args_bytes != info.args_bytes)
      return Failure{
          info.name, 0,
          std::to_string(args_bytes) + " bytes of arguments, " + std::to_string(info.args_bytes) + " expected"};
    if (grid.x < 0 || grid.y < 0 || grid.z < 0) return Failure{info.name, 0, "a negative grid"};
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return Done{};
    if (grid.y > 65535 || grid.z > 65535) return Failure{info.name, 0, "a grid of more than 65535 in y or z"};
    if constexpr (Api::kDynamicShared) {
      if (is_tall(kernel)) {
        return check(info.name, Api::launch_tall(t_, functions_[static_cast<std::size_t>(kernel)], grid, units_,
                                                 kernel == Kernel::gemm_fp8_blocks_m128,
                                                 *static_cast<const GemmArgs*>(args), stream_));
      }
    }
    void* parameters[] = {const_cast<void*>(args)};  // the library copies, it does not write
    return check(info.name, Api::launch(t_, functions_[static_cast<std::size_t>(kernel)], grid,
                                        Api::kDynamicShared ? dynamic_bytes(kernel) : 0, stream_, parameters));
  }

  Outcome<> begin_capture() override {
    if (auto done = refuse("begin_capture"); !done) return done;
    auto done = check("StreamBeginCapture", t_.capture_begin(stream_, Api::kCapture));
    capturing_ = static_cast<bool>(done);
    return done;
  }
  Outcome<std::unique_ptr<Graph>> end_capture() override {
    if (!capturing_) return Failure{"end_capture", 0, "no capture is under way"};
    capturing_ = false;
    auto graph = std::make_unique<Captured>(t_);
    if (auto done = check("StreamEndCapture", t_.capture_end(stream_, &graph->graph)); !done) return done.failure();
    if (auto done = check("GraphGetNodes", t_.graph_nodes(graph->graph, nullptr, &graph->nodes)); !done)
      return done.failure();
    if (auto done = check("GraphInstantiate", Api::instantiate(t_, &graph->exec, graph->graph)); !done)
      return done.failure();
    return std::unique_ptr<Graph>(std::move(graph));
  }
  Outcome<> run(Graph& graph) override {
    auto* captured = dynamic_cast<Captured*>(&graph);
    if (captured == nullptr) return Failure{"run", 0, "the graph belongs to another device"};
    return check("GraphLaunch", t_.graph_launch(captured->exec, stream_));
  }
  bool capturing() const override { return capturing_; }

  Outcome<> mark(int which) override { return check("EventRecord", t_.event_record(events_[which & 1], stream_)); }
  Outcome<double> nanoseconds_between_marks() override {
    if (auto done = check("EventSynchronize", t_.event_synchronize(events_[1])); !done) return done.failure();
    float milliseconds = 0;
    if (auto done = check("EventElapsedTime", t_.event_elapsed(&milliseconds, events_[0], events_[1])); !done)
      return done.failure();
    return static_cast<double>(milliseconds) * 1e6;
  }

 private:
  struct Captured : Graph {
    explicit Captured(const typename Api::Table& t) : table(t) {}
    ~Captured() override {
      if (exec != nullptr) table.graph_exec_destroy(exec);
      if (graph != nullptr) table.graph_destroy(graph);
    }
    std::size_t node_count() const override { return nodes; }
    const typename Api::Table& table;
    void* graph = nullptr;
    void* exec = nullptr;
    std::size_t nodes = 0;
  };
  Outcome<> check(const char* op, int code) const {
    if (code == 0) return Done{};
    const bool ours = op[0] >= 'a' && op[0] <= 'z';  // a kernel's name, not a library function's
    return Failure{ours ? op : std::string(Api::kPrefix) + op, code, Api::error(t_, code)};
  }
  Outcome<> refuse(const char* op) const {
    if (capturing_) return Failure{op, 0, "not allowed while a graph is captured"};
    return Done{};
  }

  std::unique_ptr<Library> library_;
  typename Api::Table t_;
  std::string name_;
  int device_ = 0, units_ = 1;
  void* context_ = nullptr;
  void* stream_ = nullptr;
  std::array<void*, 2> events_{};
  std::vector<void*> modules_;
  std::vector<void*> functions_;
  std::map<void*, bool> shared_;
  bool capturing_ = false, entered_ = false;
};

template <class Api>
Outcome<std::unique_ptr<Device>> open_with(const char* library_name, int ordinal) {
  auto library = std::make_unique<Library>(library_name);
  if (!library->open()) return Failure{"dlopen", 0, library->error()};
  typename Api::Table table;
  std::string missing;
  Api::load(*library, table, missing);
  if (!missing.empty()) return Failure{library_name, 0, "lacks " + missing};
  if (const int code = table.init(0); code != 0)
    return Failure{std::string(Api::kPrefix) + "Init", code, Api::error(table, code)};
  int count = 0;
  if (const int code = table.device_count(&count); code != 0)
    return Failure{std::string(Api::kPrefix) + "DeviceGetCount", code, Api::error(table, code)};
  if (ordinal < 0 || ordinal >= count)
    return Failure{library_name, 0,
                   "has " + std::to_string(count) + " devices, number " + std::to_string(ordinal) + " was asked for"};
  auto device = std::make_unique<GpuDevice<Api>>(std::move(library), table);
  if (auto started = device->start(ordinal); !started) return started.failure();
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace

Outcome<std::unique_ptr<Device>> open_gpu(int ordinal) {
  std::string reasons;
  auto note = [&](const char* library, const Failure& failure) {
    reasons += (reasons.empty() ? "" : "; ") + std::string(library) + ": " + failure.text();
  };
  for (const char* library : {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5"}) {
    auto device = open_with<Hip>(library, ordinal);
    if (device) return device;
    note(library, device.failure());
  }
  auto device = open_with<Cuda>("libcuda.so.1", ordinal);
  if (device) return device;
  note("libcuda.so.1", device.failure());
  return Failure{"open_gpu", 0, reasons};
}

}  // namespace faultline::kernels
