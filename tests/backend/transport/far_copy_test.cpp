#include "backend/transport/far_copy.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/base/random.h"

namespace faultline::transport {
namespace {

TEST(FarCopy, CopiesEveryLengthAndAlignmentAndNothingBeside) {
  constexpr std::size_t kRoom = 96 << 10;
  Random r(3, "test/far-copy");
  std::vector<std::byte> from(kRoom), to(kRoom), expected(kRoom);
  for (std::byte& b : from) b = static_cast<std::byte>(r.below(256));
  std::vector<std::size_t> lengths{0, 1, 63, 64, 16'383, 16'384, 16'447, 16'448, 16'449, 32'768, 65'536, 65'537};
  for (int i = 0; i < 300; ++i) lengths.push_back(r.below(80'000));
  for (const std::size_t length : lengths) {
    const std::size_t source = r.below(4'200), target = r.below(4'200);
    std::fill(to.begin(), to.end(), std::byte{0xee});
    expected = to;
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(source), length,
                expected.begin() + static_cast<std::ptrdiff_t>(target));
    far_copy(to.data() + target, from.data() + source, length);
    ASSERT_TRUE(to == expected) << length << " bytes from " << source << " to " << target;
  }
}

}  // namespace
}  // namespace faultline::transport
