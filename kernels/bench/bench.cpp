#include "kernels/bench/bench.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <set>

#include "kernels/bench/plain.h"
#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"

namespace faultline::kernels::bench {

#if defined(__x86_64__)
namespace plain_v2 {
PlainLoops loops();
}
namespace plain_v3 {
PlainLoops loops();
}
namespace plain_v4 {
PlainLoops loops();
}
PlainLoops plain_loops() {
  switch (cpu_levels().back()) {
    case CpuLevel::v4: return plain_v4::loops();
    case CpuLevel::v3: return plain_v3::loops();
    default: return plain_v2::loops();
  }
}
#else
namespace plain_portable {
PlainLoops loops();
}
PlainLoops plain_loops() { return plain_portable::loops(); }
#endif

namespace {

// OpenBLAS when this machine has it; never linked.
struct Blas {
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  Sgemm sgemm = nullptr;
  Blas() {
    void* handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return;
    auto* threads = reinterpret_cast<void (*)(int)>(dlsym(handle, "openblas_set_num_threads"));
    if (threads != nullptr) threads(1);
    sgemm = reinterpret_cast<Sgemm>(dlsym(handle, "cblas_sgemm"));
  }
  /// c[m][n] = a[m][k] w[n][k]^T
  void operator()(int m, int n, int k, const float* a, const float* w, float* c) const {
    sgemm(101, 111, 112, m, n, k, 1, a, k, w, k, 0, c, n);
  }
};
const Blas& blas() {
  static const Blas b;
  return b;
}

class Values {  // quick deterministic filler: the numbers only have to be plausible
 public:
  std::uint32_t bits() { return state_ = state_ * 1664525U + 1013904223U; }
  float uniform() { return static_cast<float>(bits() >> 8) * 0x1p-24F; }
  std::vector<std::uint8_t> codes(std::size_t n) {
    std::vector<std::uint8_t> out(n);
    for (auto& c : out) {
      c = static_cast<std::uint8_t>(bits() >> 20);
      if ((c & 0x7f) == 0x7f || c == 0x80) c = 0x38;
    }
    return out;
  }
  std::vector<std::uint16_t> halves(std::size_t n) {
    std::vector<std::uint16_t> out(n);
    for (auto& h : out) h = static_cast<std::uint16_t>(0x3f80 | (bits() >> 16 & 0x807f));  // +-1 … 2
    return out;
  }
  std::vector<float> floats(std::size_t n, float size) {
    std::vector<float> out(n);
    for (auto& f : out) f = (uniform() - 0.5F) * size;
    return out;
  }

 private:
  std::uint32_t state_ = 12345;
};

std::size_t size(std::int64_t a, std::int64_t b = 1, std::int64_t c = 1) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b) * static_cast<std::size_t>(c);
}
int whole(std::int64_t v) { return static_cast<int>(v); }

// One prepared case: `run` launches it once; `other` does the same work in another way on the host.
struct Prepared {
  std::vector<Buffer> buffers;
  std::function<Outcome<>()> run;
  std::function<void()> other;
  std::string other_name;
  std::vector<std::vector<float>> host;  // what `other` works on
};

Prepared prepare_gemm(Device& device, const Case& c, bool compare) {
  Prepared p;
  Values values;
  const auto& o = c.op;
  const bool bf16 = o.precision == "bf16", rows = o.precision == "fp8_rows";
  const std::int64_t k_bytes = o.k * (bf16 ? 2 : 1);
  auto hold = [&](Buffer b) { return p.buffers.emplace_back(std::move(b)).data(); };
  p.buffers.reserve(8);
  std::vector<std::uint8_t> a, w;
  if (bf16) {
    const auto ha = values.halves(size(o.m, o.k, o.batch)),
               hw = values.halves(size(padded_columns(whole(o.n)), o.k, o.batch));
    a.assign(reinterpret_cast<const std::uint8_t*>(ha.data()),
             reinterpret_cast<const std::uint8_t*>(ha.data() + ha.size()));
    w.assign(reinterpret_cast<const std::uint8_t*>(hw.data()),
             reinterpret_cast<const std::uint8_t*>(hw.data() + hw.size()));
  } else {
    a = values.codes(size(o.m, o.k, o.batch));
    w = values.codes(size(padded_columns(whole(o.n)), o.k, o.batch));  // already "shuffled": any bytes do
  }
  GemmArgs g{};
  g.a = hold(Buffer::of(device, a)), g.w = hold(Buffer::of(device, w));
  if (!bf16) {
    const std::size_t as = rows ? size(o.m) : size(o.m, o.k / 128),
                      ws = rows ? size(o.n) : size((o.n + 127) / 128, o.k / 128);
    g.a_scale = reinterpret_cast<const float*>(hold(Buffer::of(device, std::vector<float>(as, 0.01F))));
    g.w_scale = reinterpret_cast<const float*>(hold(Buffer::of(device, std::vector<float>(ws, 0.01F))));
  }
  g.out = hold(Buffer(device, size(o.m, o.n, o.batch) * 2));
  if (o.batch == 1)
    g.partial = reinterpret_cast<float*>(
        hold(Buffer(device, std::min<std::size_t>(gemm_partial_floats(whole(o.m), whole(o.n), whole(k_bytes)) * 4,
                                                  std::size_t{1} << 31))));
  if (gemm_partial_floats(whole(o.m), whole(o.n), whole(k_bytes)) * 4 > std::size_t{1} << 31) g.partial = nullptr;
  g.a_stride = size(o.m, k_bytes), g.w_stride = shuffled_bytes(whole(o.n), whole(k_bytes)),
  g.out_stride = size(o.m, o.n);
  g.m = whole(o.m), g.n = whole(o.n), g.k_bytes = whole(k_bytes), g.lda = whole(k_bytes), g.ldo = whole(o.n);
  p.run = [&device, g, rows, bf16, batch = whole(o.batch)] {
    return bf16 ? gemm_bf16(device, g, batch) : rows ? gemm_fp8(device, g) : gemm_fp8_blocks(device, g);
  };
  if (compare && blas().sgemm != nullptr) {
    p.host = {values.floats(size(o.m, o.k), 1), values.floats(size(o.n, o.k), 1), std::vector<float>(size(o.m, o.n))};
    p.other_name = "OpenBLAS sgemm";
    p.other = [m = whole(o.m), n = whole(o.n), k = whole(o.k), batch = o.batch, a0 = p.host[0].data(),
               w0 = p.host[1].data(), c0 = p.host[2].data()] {
      for (std::int64_t b = 0; b < batch; ++b) blas()(m, n, k, a0, w0, c0);
    };
  }
  return p;
}

Prepared prepare_mla_decode(Device& device, const Case& c, bool compare) {
  Prepared p;
  Values values;
  const auto& o = c.op;
  const std::int64_t sequences = o.sequences, context = o.context / sequences, pages_each = (context + 63) / 64,
                     pages = pages_each * sequences, heads = o.heads;
  auto hold = [&](Buffer b) { return p.buffers.emplace_back(std::move(b)).data(); };
  p.buffers.reserve(16);
  auto q = values.codes(size(sequences, heads, 576)), cache = values.codes(size(pages, 64, 576));
  std::vector<int> table, start, one(size(sequences), 1), length(size(sequences), whole(context));
  for (int i = 0; i < pages; ++i) table.push_back(i);
  for (int i = 0; i < sequences; ++i) start.push_back(i);
  AttentionArgs a{};
  a.q = hold(Buffer::of(device, q)), a.k = a.v = hold(Buffer::of(device, cache));
  auto ints = [&](const std::vector<int>& v) { return reinterpret_cast<const int*>(hold(Buffer::of(device, v))); };
  a.pages = ints(table), a.q_start = ints(start), a.q_len = ints(one), a.kv_len = ints(length);
  a.out = reinterpret_cast<std::uint16_t*>(hold(Buffer(device, size(sequences, heads, 1024))));
  a.status = reinterpret_cast<std::uint32_t*>(hold(Buffer(device, 16)));
  a.sequences = a.tokens = whole(sequences), a.pages_ld = whole(pages_each), a.page_count = whole(pages),
  a.heads = whole(heads), a.kv_heads = 1, a.causal = 1;
  a.split_tokens = kSplitTokens, a.splits = attention_splits(whole(context));
  a.partial = reinterpret_cast<float*>(hold(Buffer(device, size(a.splits, sequences * heads, 2048)))),
  a.peaks = reinterpret_cast<float*>(hold(Buffer(device, size(a.splits, sequences * heads, 8))));
  a.q_head = 576, a.q_token = size(heads, 576), a.k_token = a.v_token = 576, a.k_page = a.v_page = 64 * 576;
  a.score_scale = 1e-5F, a.v_scale = 0.01F;
  p.run = [&device, a] { return attention(device, AttentionKind::mla_decode_fp8, a, 1); };
  if (compare) {
    std::vector<float> decode;
    for (int i = 0; i < 256; ++i)
      decode.push_back(i == 0x80 ? 0.0F : fp8_decode(static_cast<std::uint8_t>(i), Fp8Format::fnuz));
    p.host = {decode, std::vector<float>(size(context)), std::vector<float>(size(heads, 512))};
    p.other_name = "plain loop";
    p.other = [q, cache, sequences, context, pages_each, heads, table0 = p.host[0].data(), scores = p.host[1].data(),
               out = p.host[2].data()] {
      static const PlainLoops loops = plain_loops();
      for (std::int64_t s = 0; s < sequences; ++s)
        loops.mla_decode(q.data() + size(s, heads, 576), cache.data() + size(s, pages_each * 64, 576), whole(context),
                         whole(heads), 1e-5F, table0, scores, out);
    };
  }
  return p;
}

Prepared prepare_mla_prefill(Device& device, const Case& c) {
  Prepared p;
  Values values;
  const auto& o = c.op;
  const std::size_t heads = size(o.heads), tokens = size(o.tokens);
  auto hold = [&](Buffer b) { return p.buffers.emplace_back(std::move(b)).data(); };
  p.buffers.reserve(16);
  AttentionArgs a{};
  a.q = hold(Buffer::of(device, values.halves(tokens * heads * 192))),
  a.k = hold(Buffer::of(device, values.halves((tokens + 64) * heads * 192))),
  a.v = hold(Buffer::of(device, values.halves((tokens + 64) * heads * 128)));
  auto ints = [&](int v) { return reinterpret_cast<const int*>(hold(Buffer::of(device, std::vector<int>{v}))); };
  a.kv_start = a.q_start = ints(0), a.q_len = a.kv_len = ints(whole(o.tokens));
  a.out = reinterpret_cast<std::uint16_t*>(hold(Buffer(device, tokens * heads * 256)));
  a.sequences = 1, a.tokens = whole(o.tokens), a.heads = a.kv_heads = whole(o.heads), a.causal = 1, a.splits = 1;
  a.q_head = a.k_head = 384, a.q_token = a.k_token = heads * 384, a.v_head = 256, a.v_token = heads * 256;
  a.score_scale = 0.01F, a.v_scale = 1;
  p.run = [&device, a, n = whole(o.tokens)] { return attention(device, AttentionKind::mla_prefill_bf16, a, n); };
  return p;
}

Prepared prepare_experts(Device& device, const Case& c, bool compare) {
  Prepared p;
  Values values;
  const auto& o = c.op;
  // tokens of this GPU, each with `slots` of its routed pairs here, and the shared experts.
  const bool routed = o.name == "experts";
  const std::int64_t shared = routed ? 1 : o.groups, experts = o.groups - shared, inter = o.n / 2,
                     routed_pairs = o.m - shared * o.tokens, top_k = routed_pairs / o.tokens;
  auto hold = [&](Buffer b) { return p.buffers.emplace_back(std::move(b)).data(); };
  p.buffers.reserve(24);
  const std::int64_t pairs = o.m, all = o.groups;
  std::vector<int> ids;
  for (std::int64_t t = 0; t < o.tokens; ++t)
    for (std::int64_t k = 0; k < top_k; ++k) ids.push_back(whole((t * top_k + k) % experts));  // balanced
  if (ids.empty()) ids.push_back(-1);
  auto floats = [&](std::size_t n) {
    return reinterpret_cast<float*>(hold(Buffer::of(device, std::vector<float>(n, 0.01F))));
  };
  auto space = [&](std::size_t n) { return hold(Buffer(device, n)); };
  MoeArgs m{};
  m.x = hold(Buffer::of(device, values.codes(size(o.tokens, o.k)))), m.x_scale = floats(size(o.tokens, o.k / 128));
  m.ids = reinterpret_cast<const int*>(hold(Buffer::of(device, ids))),
  m.weights = floats(std::max<std::size_t>(ids.size(), 1));
  {
    // Weights expert by expert: the whole may be gigabytes.
    const auto one = values.codes(size(2 * inter, o.k));
    Buffer w13(device, one.size() * size(all)), w2(device, one.size() / 2 * size(all));
    for (std::int64_t e = 0; e < all; ++e) {
      w13.write(one.data(), one.size(), one.size() * size(e));
      w2.write(one.data(), one.size() / 2, one.size() / 2 * size(e));
    }
    m.w13 = hold(std::move(w13)), m.w2 = hold(std::move(w2));
  }
  m.w13_scale = floats(size(all, 2 * inter / 128, o.k / 128)), m.w2_scale = floats(size(all, o.k / 128, inter / 128));
  m.mid = space(size(pairs, inter)), m.mid_scale = reinterpret_cast<float*>(space(size(pairs, inter / 128) * 4)),
  m.y = reinterpret_cast<float*>(space(size(pairs, o.k) * 4));
  m.out = reinterpret_cast<std::uint16_t*>(space(size(o.tokens, o.k) * 2)),
  m.order = reinterpret_cast<int*>(space(moe_order_ints(whole(pairs), whole(all)) * 4));
  m.tile_expert = reinterpret_cast<int*>(space(size(pairs + all) * 4)),
  m.tile_count = reinterpret_cast<int*>(space(16)), m.status = reinterpret_cast<std::uint32_t*>(space(16));
  m.m = whole(o.tokens), m.hidden = whole(o.k), m.inter = whole(inter), m.experts = whole(experts),
  m.shared = whole(shared), m.top_k = whole(top_k);
  p.run = [&device, m] { return fused_moe(device, m); };
  if (compare && blas().sgemm != nullptr && routed) {
    // Each expert has weights of its own, as in the model: they come from memory, not from cache.
    const std::int64_t each = routed_pairs / experts;
    p.host = {values.floats(size(o.tokens, o.k), 1), std::vector<float>(size(all, 3 * inter, o.k), 0.5F),
              std::vector<float>(size(std::max(each, o.tokens), 2 * inter)),
              std::vector<float>(size(std::max(each, o.tokens), o.k))};
    p.other_name = "OpenBLAS sgemm";
    p.other = [each, experts, all, inter, hidden = o.k, tokens = o.tokens, x = p.host[0].data(), w = p.host[1].data(),
               mid = p.host[2].data(), y = p.host[3].data()] {
      for (std::int64_t e = 0; e < all; ++e) {
        const int rows = whole(e < experts ? each : tokens);
        const float* w13 = w + size(e, 3 * inter, hidden);
        blas()(rows, whole(2 * inter), whole(hidden), x, w13, mid);
        blas()(rows, whole(hidden), whole(inter), mid, w13 + size(2 * inter, hidden), y);
      }
    };
  }
  return p;
}

Prepared prepare_top_k(Device& device, const Case& c, bool compare) {
  Prepared p;
  Values values;
  const auto& o = c.op;
  const int experts = whole(o.n), groups = experts >= 256 ? 8 : 1, top_groups = groups > 1 ? 4 : 1;
  p.buffers.reserve(4);
  auto hold = [&](Buffer b) { return p.buffers.emplace_back(std::move(b)).data(); };
  p.host = {values.floats(size(o.tokens, o.n), 6), values.floats(size(o.n), 0.1F), std::vector<float>(size(o.n) * 3),
            std::vector<float>(64)};
  RouterArgs r{};
  r.logits = reinterpret_cast<const float*>(hold(Buffer::of(device, p.host[0]))),
  r.bias = reinterpret_cast<const float*>(hold(Buffer::of(device, p.host[1])));
  r.ids = reinterpret_cast<int*>(hold(Buffer(device, size(o.tokens, 8) * 4))),
  r.weights = reinterpret_cast<float*>(hold(Buffer(device, size(o.tokens, 8) * 4)));
  r.m = whole(o.tokens), r.experts = experts, r.groups = groups, r.top_groups = top_groups, r.top_k = 8,
  r.route_scale = 2.5F;
  p.run = [&device, r] { return router(device, r); };
  if (compare) {
    p.other_name = "plain loop";
    p.other = [tokens = o.tokens, experts, groups, top_groups, logits = p.host[0].data(), bias = p.host[1].data(),
               work = p.host[2].data(), weights = p.host[3].data()] {
      static const PlainLoops loops = plain_loops();
      int ids[8];
      for (std::int64_t t = 0; t < tokens; ++t)
        loops.route(logits + t * experts, bias, experts, groups, top_groups, 8, 2.5F, ids, weights, work);
    };
  }
  return p;
}

Prepared prepare_sample(Device& device, const Case& c, bool compare) {
  Prepared p;
  Values values;
  const auto& o = c.op;
  p.buffers.reserve(8);
  auto hold = [&](Buffer b) { return p.buffers.emplace_back(std::move(b)).data(); };
  p.host = {std::vector<float>(size(o.tokens, o.n)), std::vector<float>(size(o.n) * 2)};
  for (float& l : p.host[0]) {  // sum of four uniforms: bell-shaped, as logits are
    l = 0;
    for (int i = 0; i < 4; ++i) l += values.uniform() - 0.5F;
    l *= 5;
  }
  const auto rows = size(o.tokens);
  SampleArgs s{};
  s.logits = reinterpret_cast<const float*>(hold(Buffer::of(device, p.host[0])));
  s.temperature = reinterpret_cast<const float*>(hold(Buffer::of(device, std::vector<float>(rows, 0.8F)))),
  s.top_k = reinterpret_cast<const int*>(hold(Buffer::of(device, std::vector<int>(rows, 50))));
  s.top_p = reinterpret_cast<const float*>(hold(Buffer::of(device, std::vector<float>(rows, 0.95F))));
  s.seed = reinterpret_cast<const std::uint64_t*>(hold(Buffer::of(device, std::vector<std::uint64_t>(rows, 1)))),
  s.position = reinterpret_cast<const std::uint64_t*>(hold(Buffer::of(device, std::vector<std::uint64_t>(rows, 2))));
  s.scratch = reinterpret_cast<std::uint32_t*>(hold(Buffer(device, sample_scratch_bytes(whole(o.tokens), whole(o.n))))),
  s.token = reinterpret_cast<int*>(hold(Buffer(device, rows * 4)));
  s.m = whole(o.tokens), s.vocabulary = whole(o.n);
  p.run = [&device, s] { return sample(device, s); };
  if (compare) {
    p.other_name = "plain loop";
    p.other = [tokens = o.tokens, n = whole(o.n), logits = p.host[0].data(), work = p.host[1].data()] {
      static const PlainLoops loops = plain_loops();
      volatile int token = 0;
      for (std::int64_t t = 0; t < tokens; ++t) token = loops.sample(logits + t * n, n, 0.8F, 50, 0.95F, 0.37, work);
      (void)token;
    };
  }
  return p;
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What the case allocates, roughly: inputs, outputs and, when compared, the floats of the other side.
double memory_of(const Case& c, bool compare) {
  return c.bytes * (compare && c.op.kind != "elementwise" ? 5 : 1.2) + c.op.nanoseconds;
}

}  // namespace

DeviceLimits measure_limits(Device& device) {
  DeviceLimits limits = device.limits();
  if (limits.memory_bytes > 0) return limits;
  constexpr std::size_t kBytes = std::size_t{256} << 20;  // beyond the last cache of most machines' share of one core
  Buffer from(device, kBytes), to(device, kBytes);
  require(device.fill(from.data(), 1, kBytes));
  double least = 1e9;
  for (int i = 0; i < 3; ++i)
    least = std::min(
        least, seconds_of([&] {
          require(device.launch(Kernel::copy_memory, {4, 1, 1}, CopyArgs{from.data(), to.data(), kBytes / 16, 4}));
        }));
  limits.memory_bytes = 2.0 * kBytes / least;
  if (blas().sgemm != nullptr) {
    const int n = 768;
    std::vector<float> a(size(n, n), 1), b(size(n, n), 1), c(size(n, n));
    double best = 1e9;
    for (int i = 0; i < 5; ++i)
      best = std::min(best, seconds_of([&] { blas()(n, n, n, a.data(), b.data(), c.data()); }));
    limits.fp8_flops = limits.bf16_flops = 2.0 * n * n * n / best;
  }
  return limits;
}

std::vector<Result> run(Device& device, const std::vector<Case>& cases, const Options& options,
                        const std::function<void(const Result&)>& progress) {
  std::vector<Result> results;
  // A GPU's weights come from memory, not from what the last run left in its cache: something larger passes through it
  // first.
  constexpr std::size_t kScrub = std::size_t{256} << 20;
  const bool gpu = device.limits().compute_units > 1;
  const Buffer scrub = gpu ? Buffer(device, kScrub) : Buffer();
  std::set<std::string> seen;
  for (const Case& c : cases) {
    model::OpRecord shape = c.op;
    shape.nanoseconds = 0;
    if (!seen.insert(model::op_log_line(shape, "")).second) continue;  // lists share shapes
    Result r;
    r.c = c;
    if (options.memory_limit > 0 && memory_of(c, options.compare) > static_cast<double>(options.memory_limit)) {
      r.skipped = "needs about " + std::to_string(static_cast<long>(memory_of(c, options.compare) / 1e6)) + " MB";
    } else {
      Prepared p = c.op.kind == "gemm"                ? prepare_gemm(device, c, options.compare)
                   : c.op.kind == "decode_attention"  ? prepare_mla_decode(device, c, options.compare)
                   : c.op.kind == "prefill_attention" ? prepare_mla_prefill(device, c)
                   : c.op.kind == "grouped_gemm"      ? prepare_experts(device, c, options.compare)
                   : c.op.name == "top_k"             ? prepare_top_k(device, c, options.compare)
                                                      : prepare_sample(device, c, options.compare);
      require(p.run());  // first run: page faults, code loading
      require(device.synchronize());
      if (p.other) p.other();
      r.nanoseconds = r.other_nanoseconds = 1e18;
      double spent = 0;
      while (r.runs < 3 || (spent < options.seconds * 1e9 && r.runs < 1000)) {
        if (gpu) require(device.fill(scrub.data(), static_cast<std::uint8_t>(r.runs), kScrub));
        require(device.mark(0));
        require(p.run());
        require(device.mark(1));
        auto time = device.nanoseconds_between_marks();
        if (!time) require(time.failure());
        r.nanoseconds = std::min(r.nanoseconds, time.value());
        spent += time.value();
        ++r.runs;
        // In turns, so that both see the same machine.
        if (p.other) r.other_nanoseconds = std::min(r.other_nanoseconds, seconds_of(p.other) * 1e9);
      }
      if (!p.other) r.other_nanoseconds = 0;
      r.other = p.other_name;
      r.c.op.nanoseconds = r.nanoseconds;
      const double peak = c.op.precision == "bf16" ? options.limits.bf16_flops : options.limits.fp8_flops;
      if (options.limits.memory_bytes > 0)
        r.roofline =
            std::max(peak > 0 ? c.flops / peak : 0, c.bytes / options.limits.memory_bytes) / (r.nanoseconds * 1e-9);
    }
    if (progress) progress(r);
    results.push_back(std::move(r));
  }
  return results;
}

std::string heading() {
  return "op             precision  shape                              time us   TFLOP/s     GB/s  roofline  against";
}

std::string line(const Result& r) {
  const auto& o = r.c.op;
  std::string shape;
  auto add = [&](const char* name, std::int64_t v) {
    if (v > 0) shape += (shape.empty() ? "" : " ") + std::string(name) + std::to_string(v);
  };
  add("m", o.m), add("n", o.n), add("k", o.k), add("x", o.batch > 1 ? o.batch : 0), add("e", o.groups),
      add("s", o.sequences), add("t", o.kind == "gemm" ? 0 : o.tokens), add("c", o.context), add("h", o.heads);
  char text[256];
  if (!r.skipped.empty()) {
    std::snprintf(text, sizeof text, "%-14s %-9s  %-32s  skipped: %s", o.name.c_str(), o.precision.c_str(),
                  shape.c_str(), r.skipped.c_str());
    return text;
  }
  char other[96] = "";
  if (r.other_nanoseconds > 0)
    std::snprintf(other, sizeof other, "%.2fx %s (%.1f us)", r.other_nanoseconds / r.nanoseconds, r.other.c_str(),
                  r.other_nanoseconds / 1e3);
  char share[16] = "-";
  if (r.roofline > 0) std::snprintf(share, sizeof share, "%.2f", r.roofline);
  std::snprintf(text, sizeof text, "%-14s %-9s  %-32s %9.1f  %8.3f %8.2f  %8s  %s", o.name.c_str(), o.precision.c_str(),
                shape.c_str(), r.nanoseconds / 1e3, r.c.flops / r.nanoseconds / 1e3, r.c.bytes / r.nanoseconds, share,
                other);
  return text;
}

}  // namespace faultline::kernels::bench
