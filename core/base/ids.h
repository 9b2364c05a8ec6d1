// Ids as types. A default-constructed id is invalid; 0 is a valid id.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <limits>

namespace faultline {

template <class Tag, class Rep = std::uint32_t>
struct Id {
  static constexpr Rep kInvalid = std::numeric_limits<Rep>::max();
  Rep v{kInvalid};
  constexpr bool valid() const { return v != kInvalid; }
  friend constexpr auto operator<=>(Id, Id) = default;
};

using ComponentId = Id<struct ComponentTag>;  // a vertex of the topology graph: gpu, nic, link, switch, node, rack, …
using NodeId = Id<struct NodeTag>;            // index of an eight-GPU server, in topology order
using RequestId = Id<struct RequestTag>;      // index of a request in arrival order
using InstanceId = Id<struct InstanceTag>;    // one replica of the model
using RouterId = Id<struct RouterTag>;
using OpId = Id<struct OpTag, std::uint64_t>;  // allocated by the caller of a port, never reused in a run
using EndpointId = Id<struct EndpointTag>;     // a transport peer
using RegionId = Id<struct RegionTag>;         // a registered memory region
using FaultId = Id<struct FaultTag>;

}  // namespace faultline

template <class Tag, class Rep>
struct std::hash<faultline::Id<Tag, Rep>> {
  std::size_t operator()(faultline::Id<Tag, Rep> id) const noexcept { return std::hash<Rep>{}(id.v); }
};
