// The tile layer on a CPU: each operation is a loop the compiler vectorises, a matrix product is a packed micro-kernel.
// Compiled once for each level (x86-64-v2, v3, v4, or portable) in a namespace of its own. Every level gives the bits
// of the gfx942 code on the emulator: an element of a product is one chain of additions in the order in which MFMA
// takes K (operands.h), a row's sum is formed as by the lanes of a wave, and nothing is contracted but where the text
// says fused.
#pragma once

#include <sched.h>
#include <cmath>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define FAULTLINE_DEV inline
#define FAULTLINE_UNROLL_LOADS

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

template <class T>
using Lds = T*;
inline constexpr float kFp8Max = 240.0F, kFp8Target = 224.0F;
inline constexpr int kPad = 16;

template <class To, class From>
inline To bits_as(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}
inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float from_bf16(std::uint16_t v) { return bits_as<float>(static_cast<std::uint32_t>(v) << 16); }
inline std::uint16_t to_bf16(float v) {
  const std::uint32_t u = bits_as<std::uint32_t>(v);
  const std::uint32_t rounded = (u + 0x7fffU + (u >> 16 & 1U)) >> 16;
  return static_cast<std::uint16_t>(v != v ? (u >> 16 | 0x40U) : rounded);
}

inline float rsqrt(float x) { return 1.0F / std::sqrt(x); }

/// Nearest e4m3 FNUZ, ties to even, saturating; NaN gives 0x80.
inline std::uint8_t to_fp8(float x) {
  float a = __builtin_fabsf(x);
  a = a > kFp8Max ? kFp8Max : a;
  // Below 2^-7 codes are denormal: adding 2^13 rounds to multiples of its unit 2^-10.
  const std::uint32_t small = bits_as<std::uint32_t>(a + 8192.0F) - 0x46000000U;
  const std::uint32_t u = bits_as<std::uint32_t>(a);
  const std::uint32_t normal = ((u + 0x7ffffU + (u >> 20 & 1U)) >> 20) - (119U << 3);
  const std::uint32_t magnitude = a < 0.0078125F ? small : normal;
  const std::uint32_t sign = magnitude != 0 ? (bits_as<std::uint32_t>(x) >> 24 & 0x80U) : 0U;
  return static_cast<std::uint8_t>(x != x ? 0x80U : magnitude | sign);
}
inline float from_fp8(std::uint8_t b) {
  if (b == 0x80) return __builtin_nanf("");
  const int e = b >> 3 & 15, m = b & 7;
  const float v = e != 0 ? bits_as<float>(static_cast<std::uint32_t>((e + 119) << 23 | m << 20))
                         : static_cast<float>(m) * 0.0009765625F;
  return b & 0x80 ? -v : v;
}

inline void copy16(std::uint8_t* to, const std::uint8_t* from) { std::memcpy(to, from, 16); }
inline void load_four(const float* p, float (&v)[4]) { std::memcpy(v, p, sizeof v); }
inline void store_bf16(std::uint8_t* to, float v) {
  const std::uint16_t h = to_bf16(v);
  std::memcpy(to, &h, 2);
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE

#include "kernels/tile/exp2.h"
#include "kernels/tile/operands.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

inline float exp2(float x) { return exact_exp2(x); }

struct Best {
  float value;
  int index;
};

/// What W lanes do to one row. Sums are formed as the lanes form them: element i by lane i % W, then halves onto
/// halves.
template <int W>
struct Lanes {
  template <class F>
  void each(int n, F f) const {
    for (int i = 0; i < n; ++i) f(i);
  }
  template <class F>
  float max_of(int n, F f, float m = -3e38F) const {
#pragma omp simd reduction(max : m)
    for (int i = 0; i < n; ++i) {
      const float v = f(i);
      m = v > m ? v : m;
    }
    return m;
  }
  template <class F>
  float sum_of(int n, F f) const {
    alignas(64) float part[W] = {};
    int first = 0;
    for (; first + W <= n; first += W) {
#pragma omp simd
      for (int l = 0; l < W; ++l) part[l] += f(first + l);
    }
    for (int l = 0; first + l < n; ++l) part[l] += f(first + l);
    for (int half = W / 2; half > 0; half /= 2)
      for (int l = 0; l < half; ++l) part[l] += part[l + half];
    return part[0];
  }
  template <class F>
  std::uint64_t total_of(int n, F f) const {
    std::uint64_t s = 0;
    for (int i = 0; i < n; ++i) s += f(i);
    return s;
  }
  template <class F>
  Best best_of(int n, F f) const {
    // The largest value first, then its first place: both loops vectorise, the obvious one does not.
    constexpr float kLeast = -3.4e38F;
    const float m = max_of(n, f, kLeast);
    for (int i = 0; i < n && m > kLeast; ++i)
      if (f(i) == m) return {m, i};
    return {kLeast, 0x7fffffff};
  }
  template <class F>
  void once(F f) const {
    f();
  }
  void sync() const {}
};
using Wave = Lanes<64>;
inline constexpr int kNarrow = 16;

#if defined(__AVX512F__)
inline constexpr int kLanes = 16, kMicroRows = 8;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8, kMicroRows = 4;
#else
inline constexpr int kLanes = 4, kMicroRows = 4;
#endif
using Vec = float __attribute__((vector_size(kLanes * 4)));
using LooseVec = float __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
inline constexpr int kStrip = 2 * kLanes < 16 ? 16 : 2 * kLanes;  // columns of a packed panel
inline constexpr int kSlab = 256;                                 // K elements packed at a time

template <int M, int N>
struct Acc {
  alignas(64) float v[M][N];
};
template <class T, int N>
inline constexpr int kTurnedBytes = 64;  // nothing is turned here
inline constexpr int kTallScaledRows = 128;
template <int M>
inline constexpr int kStreamBytes = 0;  // nothing is staged in scratch
template <class To>
inline Lds<To> lds_as(Lds<std::uint8_t> memory) {
  return reinterpret_cast<To*>(memory);
}

// FP8 codes to floats. Levels with F16C move the bits into a half float and let the hardware expand it: exact for every
// code but 0x80, which becomes -0 (kernels keep NaN out of codes: a bad row has a NaN scale). Half's exponent bias is
// 15, FNUZ's 8: the result is 2^7 too small.
struct Decode {
#if defined(__AVX512F__)
  static void sixteen(__m128i bytes, float* out) {
    const __m256i words =
        _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7), _mm256_set1_epi16(-0x4001));
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtph_ps(words), _mm512_set1_ps(128.0F)));
  }
  // Two vectors, `apart` floats from each other.
  static void thirty_two(__m256i bytes, float* out, int apart) {
    const __m512i words =
        _mm512_and_si512(_mm512_slli_epi16(_mm512_cvtepi8_epi16(bytes), 7), _mm512_set1_epi16(-0x4001));
    const __m512 scale = _mm512_set1_ps(128.0F);
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(words)), scale));
    _mm512_storeu_ps(out + apart, _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(words, 1)), scale));
  }
#elif defined(__F16C__) && defined(__AVX2__)
  static void sixteen(__m128i bytes, float* out) {
    const __m256i words =
        _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7), _mm256_set1_epi16(-0x4001));
    const __m256 scale = _mm256_set1_ps(128.0F);
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(words)), scale));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(words, 1)), scale));
  }
#endif
  static float one(std::uint8_t b) {
    // Branch-free: exponent and mantissa moved into a float 2^120 too small, denormals included, then scaled up.
    const std::uint32_t u = static_cast<std::uint32_t>(b & 0x80) << 24 | static_cast<std::uint32_t>(b & 0x7f) << 20;
    return bits_as<float>(u) * 0x1p119F;
  }
  static void row(const std::uint8_t* p, float* out, int n) {  // n a multiple of 16
#if defined(__F16C__) && defined(__AVX2__)
#if defined(__AVX512F__)
    int done = 0;
    for (; done + 32 <= n; done += 32)
      thirty_two(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + done)), out + done, 16);
    for (int i = done; i < n; i += 16)
#else
    for (int i = 0; i < n; i += 16)
#endif
      sixteen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i)), out + i);
#else
    for (int i = 0; i < n; ++i) out[i] = one(p[i]);
#endif
  }
};

#if defined(__x86_64__)
// 16 x 16 bytes: out[k] holds byte k of each of the 16 rows.
inline void turn16(const std::uint8_t* p, std::size_t stride, __m128i (&r)[16]) {
  __m128i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride));
  // Four rounds of a perfect shuffle of the row index and the byte index.
  for (int i = 0; i < 8; ++i)
    b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]), b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
  for (int i = 0; i < 8; ++i)
    a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]), a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
  for (int i = 0; i < 8; ++i)
    b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]), b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
  for (int i = 0; i < 8; ++i)
    r[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]), r[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
}
#endif

#if defined(__AVX512F__)
// The same in 512-bit registers: four rows a register, then dwords across registers, bytes within lanes, dwords across
// lanes. Register q of the result holds, in its lane b, byte 4 q + b of each of the 16 rows. 20 shuffles instead of 64.
inline void turn16(const std::uint8_t* p, std::size_t stride, __m512i (&r)[4]) {
  __m512i z[4];
  for (int j = 0; j < 4; ++j) {
    if (stride == 16) {  // pre-shuffled weights
      z[j] = _mm512_loadu_si512(p + 64 * j);
    } else {
      auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + (4 * j + i) * stride)); };
      z[j] = _mm512_inserti32x4(
          _mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(row(0)), row(1), 1), row(2), 2), row(3), 3);
    }
  }
  const __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
  const __m512i c = _mm512_unpacklo_epi32(z[2], z[3]), d = _mm512_unpackhi_epi32(z[2], z[3]);
  const __m512i w[4] = {_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c), _mm512_unpacklo_epi64(b, d),
                        _mm512_unpackhi_epi64(b, d)};
  const __m512i square =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));  // a 4 x 4 transpose
  const __m512i across = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int q = 0; q < 4; ++q)
    r[q] = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(across, _mm512_shuffle_epi8(w[q], square)), square);
}
#endif

/// Sixteen rows of 16 bytes to columns: out[k * kStrip + row].
template <class T>
inline void unpack_columns(const std::uint8_t* p, std::size_t stride, float* out) {
  if constexpr (T::kBytes == 1) {
#if defined(__AVX512F__)
    __m512i r[4];
    turn16(p, stride, r);
    for (int q = 0; q < 4; ++q) {
      Decode::thirty_two(_mm512_castsi512_si256(r[q]), out + 4 * q * kStrip, kStrip);
      Decode::thirty_two(_mm512_extracti64x4_epi64(r[q], 1), out + (4 * q + 2) * kStrip, kStrip);
    }
#elif defined(__F16C__) && defined(__AVX2__)
    __m128i r[16];
    turn16(p, stride, r);
    for (int k = 0; k < 16; ++k) Decode::sixteen(r[k], out + k * kStrip);
#else
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < 16; ++k) out[k * kStrip + n] = Decode::one(p[n * stride + k]);
#endif
  } else {
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < 8; ++k) {
        std::uint16_t h;
        std::memcpy(&h, p + n * stride + 2 * k, 2);
        out[k * kStrip + n] = from_bf16(h);
      }
  }
}
template <class T>
inline void unpack_row(const std::uint8_t* p, float* out, int n) {
  if constexpr (T::kBytes == 1) {
    Decode::row(p, out, n);
  } else {
    for (int i = 0; i < n; ++i) {
      std::uint16_t h;
      std::memcpy(&h, p + 2 * i, 2);
      out[i] = from_bf16(h);
    }
  }
}

inline Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }

/// c + a x b. Where a level has no fused instruction it rounds the product first: products of FP8 and of bf16 are exact
/// in float (down to 2^-149), so the bits are the same.
inline Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return c + a * b;
#endif
}

// R rows x two vectors of columns over K, a whole number of 64-byte blocks, in the order of MFMA: c += a x b. b is a
// panel of kStrip columns.
template <class T, bool kWide, int R>
inline void micro(const float* a, int lda, const float* b, int k_count, float* c, int ldc) {
  constexpr int kPiece = 8 / T::kBytes;
  Vec s[R][2];
  for (int r = 0; r < R; ++r) s[r][0] = load(c + r * ldc), s[r][1] = load(c + r * ldc + kLanes);
  for (int block = 0; block < k_count; block += 8 * kPiece)
    for (int n = 0; n < 8; ++n) {
      const int first = block + mfma_piece<kWide>(n) * kPiece;
      for (int k = first; k < first + kPiece; ++k) {
        const Vec b0 = load(b + k * kStrip), b1 = load(b + k * kStrip + kLanes);
        for (int r = 0; r < R; ++r) {
          const Vec x = a[r * lda + k] - Vec{};  // a broadcast: x - 0 is x, while 0 + x would be an addition (for -0)
          s[r][0] = multiply_add(x, b0, s[r][0]);
          s[r][1] = multiply_add(x, b1, s[r][1]);
        }
      }
    }
  for (int r = 0; r < R; ++r) store(c + r * ldc, s[r][0]), store(c + r * ldc + kLanes, s[r][1]);
}
template <class T, bool kWide>
inline void multiply_strip(const float* a, int lda, const float* b, int k_count, float* c, int ldc, int row_count) {
  for (int column = 0; column < kStrip; column += 2 * kLanes) {
    auto rows = [&]<int R>(int r) {
      micro<T, kWide, R>(a + r * lda, lda, b + column, k_count, c + r * ldc + column, ldc);
    };
    int r = 0;
    for (; r + kMicroRows <= row_count; r += kMicroRows) rows.template operator()<kMicroRows>(r);
    for (; r + 2 <= row_count; r += 2) rows.template operator()<2>(r);
    for (; r < row_count; ++r) rows.template operator()<1>(r);
  }
}

struct Block {
  int bx = 0, by = 0, bz = 0;
  int x() const { return bx; }
  int y() const { return by; }
  int z() const { return bz; }
  static constexpr bool kWritesRows = false;
  void barrier() const {}
  template <class F>
  void tall_tiles(F f) const {
    f(*this, bx, by, bz);
  }
  template <int M, int N>
  using Total = Acc<M, N>;
  template <int M, int N>
  void add_part(Acc<M, N>& total, Acc<M, N>& part, bool, bool) const {
    fold(total, part, [](int, int) { return 1.0F; });
  }
  template <class F>
  void each(int n, F f) const {
    for (int i = 0; i < n; ++i) f(i);
  }
  template <class F>
  void rows(int n, F f) const {
    for (int r = 0; r < n; ++r) f(r, Wave{});
  }
  template <class F>
  void narrow_rows(int n, F f) const {
    for (int r = 0; r < n; ++r) f(r, Lanes<kNarrow>{});
  }
  template <class F>
  void once(F f) const {
    f();
  }
  template <class Use>
  void sweep(const float* p, int n, Use use) const {
    for (int i = 0; i < n; ++i) use(i, p[i]);
  }
  template <class T, int N, int Tag>
  static Lds<T> shared() {
    alignas(64) static thread_local T s[N];
    return s;
  }

  template <int N, int kAfter = 0>
  static Lds<std::uint8_t> scratch() {
    return shared<std::uint8_t, N, 99>();
  }

  template <int M, int N>
  void zero(Acc<M, N>& c) const {
    std::memset(c.v, 0, sizeof c.v);
  }
  template <int M, int N, class F>
  void map(Acc<M, N>& c, F f) const {
    for (int i = 0; i < M; ++i)
      for (int j = 0; j < N; ++j) f(i, j, c.v[i][j]);
  }
  template <int M, int N, class To, class F>
  void store(const Acc<M, N>& c, To to, F f) const {
    for (int i = 0; i < M; ++i)
      if (float* row = to(i); row != nullptr)
        for (int j = 0; j < N; ++j) row[j] = f(c.v[i][j]);
  }
  template <int M, int N, class F>
  void fold(Acc<M, N>& total, Acc<M, N>& part, F scale) const {
    for (int i = 0; i < M; ++i)
      for (int j = 0; j < N; ++j) {
        total.v[i][j] = fused(part.v[i][j], scale(i, j), total.v[i][j]);
        part.v[i][j] = 0;
      }
  }

  template <class T, int M, int N, int Tag, class Row, class After>
  void mma_stream(Acc<M, N>& c, Row row, int valid, const std::uint8_t* weights, int blocks, int column0, int first,
                  int last, After after) const {
    constexpr bool kFolds = !__is_same(After, NoFold);
    constexpr int kSpan = kFolds ? kStepBytes / T::kBytes : kSlab;  // elements
    alignas(64) static thread_local float a[M][kSlab], b[kSlab * kStrip];
    for (int k0 = first * 64 / T::kBytes; k0 < last * 64 / T::kBytes; k0 += kSpan) {
      const int count = last * 64 / T::kBytes - k0 < kSpan ? last * 64 / T::kBytes - k0 : kSpan;
      for (int i = 0; i < valid; ++i) unpack_row<T>(row(i) + static_cast<std::size_t>(k0) * T::kBytes, a[i], count);
      for (int n = 0; n < N; n += kStrip) {
        for (int q = 0; q < kStrip; q += 16) {
          const std::uint8_t* w = weights + static_cast<std::size_t>((column0 + n + q) / 16) * blocks * 1024;
          for (int k = 0; k < count; k += 16 / T::kBytes) {
            const std::size_t at = static_cast<std::size_t>(k0 + k) * T::kBytes;
            unpack_columns<T>(w + at / 16 * 256, 16, b + k * kStrip + q);
          }
        }
        multiply_strip<T, kWideProduct<M, N>>(&a[0][0], kSlab, b, count, &c.v[0][n], N, valid);
      }
      if constexpr (kFolds) after(k0 * T::kBytes / kStepBytes);
    }
  }

  template <class T, int M, int N, int Tag, class Row, class WeightScale, class RowScale>
  void mma_stream_scaled(Acc<M, N>& total, Row row, int valid, const std::uint8_t* weights, int blocks, int column0,
                         int first, int last, WeightScale weight_scale, RowScale row_scale) const {
    static thread_local Acc<M, N> part;
    zero(part);
    mma_stream<T, M, N, Tag>(part, row, valid, weights, blocks, column0, first, last, [&](int step) {
      const float sw = *weight_scale(step);
      fold(total, part, [&](int i, int) { return sw * *row_scale(step, i); });
    });
  }
  void arrived() const {}

  template <class T, int M, int N, class PointerA>
  void mma_rows(Acc<M, N>& c, PointerA pa, int lda, const std::uint8_t* pb, std::size_t ldb, int bytes) const {
    alignas(64) static thread_local float a[M][kSlab], b[kSlab * kStrip];
    const int total = bytes / T::kBytes;
    for (int k0 = 0; k0 < total; k0 += kSlab) {
      const int count = total - k0 < kSlab ? total - k0 : kSlab;
      for (int i = 0; i < M; ++i) unpack_row<T>(&pa[i * lda + k0 * T::kBytes], a[i], count);
      for (int n = 0; n < N; n += kStrip) {
        for (int q = 0; q < kStrip; q += 16)
          for (int k = 0; k < count; k += 16 / T::kBytes)
            unpack_columns<T>(pb + (n + q) * ldb + static_cast<std::size_t>(k0 + k) * T::kBytes, ldb,
                              b + k * kStrip + q);
        multiply_strip<T, kWideProduct<M, N>>(&a[0][0], kSlab, b, count, &c.v[0][n], N, M);
      }
    }
  }

  template <class T, int M, int N, class PointerA>
  void mma_scores(Acc<M, N>& c, PointerA a, int lda, const std::uint8_t* b, std::size_t ldb, int bytes) const {
    mma_rows<T>(c, a, lda, b, ldb, bytes);
  }

  template <class T, int M, int N, int P>
  void mma_columns(Acc<M, N>& c, const std::uint8_t* pa, int lda, const std::uint8_t* pb, std::size_t ldb, int valid,
                   Lds<std::uint8_t>) const {
    alignas(64) static thread_local float a[M][P], b[P * kStrip];
    const int count = valid < P ? valid : P;
    for (int i = 0; i < M; ++i) unpack_row<T>(pa + i * lda, a[i], P);
    for (int n = 0; n < N; n += kStrip) {
      for (int t = 0; t < count; ++t) unpack_row<T>(pb + t * ldb + n * T::kBytes, b + t * kStrip, kStrip);
      std::memset(b + count * kStrip, 0, sizeof(float) * kStrip * static_cast<std::size_t>(P - count));
      multiply_strip<T, kWideProduct<M, N>>(&a[0][0], P, b, P, &c.v[0][n], N, M);
    }
  }
};

template <class T>
inline T atomic_add_shared(T* p, T v) {
  const T old = *p;
  *p = static_cast<T>(old + v);
  return old;
}
// The CPU device runs the blocks of a launch one after the other.
template <class T>
inline T atomic_add_global(T* p, T v) {
  return atomic_add_shared(p, v);
}
inline void atomic_or_global(std::uint32_t* p, std::uint32_t v) { *p |= v; }
inline std::uint32_t load_system(const std::uint32_t* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
inline void store_system(std::uint32_t* p, std::uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
inline void pause() { sched_yield(); }  // whom we wait for may need this core

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
