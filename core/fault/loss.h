// What packet loss leaves of a reliable RDMA connection.
#pragma once

namespace faultline::fault {

/// Share of the capacity that a go-back-N sender keeps: every lost packet is followed by the retransmission of the
/// whole window. loss in [0, 1) is per packet; window >= 1 is the packets in flight. For small losses about 1 / (1 +
/// loss * window). Source: Bertsekas and Gallager, Data Networks (1992), section 2.4. RoCE NICs of the kind modelled
/// here (ConnectX, before selective repeat) retransmit so; Mittal et al., SIGCOMM 2018.
constexpr double go_back_n_share(double loss, double window) { return (1 - loss) / (1 - loss + loss * window); }

}  // namespace faultline::fault
