#include "backend/transport/far_copy.h"

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace faultline::transport {

#ifdef __SSE2__
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = 4;  // at a time: more streams than one keep more memory requests in flight
constexpr std::size_t kBlock = kPage * kPages;

/// One cache line; `to` is aligned to 16 bytes.
inline void stream_line(std::byte* to, const std::byte* from) {
  __m128i part[4];
  for (int i = 0; i < 4; ++i) part[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i);
  for (int i = 0; i < 4; ++i) _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i, part[i]);
}

}  // namespace

void far_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  const std::size_t head = -reinterpret_cast<std::uintptr_t>(to) % kLine;
  if (bytes < kBlock + kLine) {
    std::memcpy(to, from, bytes);
    return;
  }
  std::memcpy(to, from, head);
  to += head, from += head, bytes -= head;
  for (; bytes >= kBlock; to += kBlock, from += kBlock, bytes -= kBlock) {
    for (std::size_t at = 0; at < kPage; at += kLine) {
      for (std::size_t page = 0; page < kBlock; page += kPage) stream_line(to + page + at, from + page + at);
    }
  }
  _mm_sfence();  // such stores are weakly ordered: before anybody is told
  std::memcpy(to, from, bytes);
}
#else
void far_copy(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
#endif

}  // namespace faultline::transport
