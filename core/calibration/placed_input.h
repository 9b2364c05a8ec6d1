// A stream's bytes, and the line and column of the one being read: what a streaming JSON parser does not tell.
#pragma once

#include <algorithm>
#include <cstring>
#include <istream>
#include <streambuf>
#include <vector>

namespace faultline::calibration {

class PlacedInput final : public std::streambuf {
 public:
  explicit PlacedInput(std::istream& source) : source_(source), block_(1 << 16) {}

  struct Place {
    int line = 1, column = 1;  // from 1, in bytes
  };
  /// Of the byte that was read last. Each byte is looked at once, however often this is asked.
  Place here() {
    count_to(gptr());
    return {line_, std::max(1, static_cast<int>(base_ + (gptr() - eback()) - line_begin_))};
  }

 private:
  int_type underflow() override {
    count_to(egptr());
    base_ += egptr() - eback();
    source_.read(block_.data(), static_cast<std::streamsize>(block_.size()));
    setg(block_.data(), block_.data(), block_.data() + source_.gcount());
    counted_ = block_.data();
    return source_.gcount() == 0 ? traits_type::eof() : traits_type::to_int_type(*gptr());
  }
  void count_to(const char* end) {
    while (counted_ < end) {
      const void* found = std::memchr(counted_, '\n', static_cast<std::size_t>(end - counted_));
      if (found == nullptr) {
        counted_ = end;
        return;
      }
      counted_ = static_cast<const char*>(found) + 1;
      ++line_;
      line_begin_ = base_ + (counted_ - eback());
    }
  }

  std::istream& source_;
  std::vector<char> block_;
  const char* counted_ = nullptr;
  std::int64_t base_ = 0, line_begin_ = 0;  // offsets in the file: of the block, of the line
  int line_ = 1;
};

}  // namespace faultline::calibration
