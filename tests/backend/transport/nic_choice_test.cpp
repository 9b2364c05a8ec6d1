#include "backend/transport/nic_choice.h"

#include <gtest/gtest.h>

namespace faultline::transport {
namespace {

TEST(NicChoice, TheNearestByTopologyComesFirstThenNumaThenLoadThenName) {
  const std::vector<NicDistance> nics{{2, true, 0, "b"},
                                      {4, false, 9, "far_but_same_switch"},
                                      {2, true, 0, "a"},
                                      {2, false, 0, "other_socket"},
                                      {2, true, 3, "busy"}};
  EXPECT_EQ(order_nics(nics), (std::vector<std::size_t>{1, 2, 0, 4, 3}));
}

TEST(NicChoice, AMachineWithoutTheDeviceListsItsInterfacesByName) {
  const auto nics = nics_near("ffff:ff:1f.7", false);
  for (std::size_t i = 1; i < nics.size(); ++i) EXPECT_LT(nics[i - 1].name, nics[i].name);
  for (const Nic& nic : nics) {
    EXPECT_NE(nic.name, "lo");
    EXPECT_EQ(nic.depth, 0U);
  }
}

}  // namespace
}  // namespace faultline::transport
