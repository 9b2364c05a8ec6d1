// An interrupt while the engine is being made belongs to whoever decided what interrupts mean, not to SimGrid.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "sim/engine/flow_net.h"
#include "tests/support/in_child.h"

namespace faultline::sim {
namespace {

volatile sig_atomic_t interrupts = 0;

TEST(FlowNetInterrupt, DoesNotEndTheProcessWhileTheEngineStarts) {
  // The window is a fraction of a millisecond, so interrupts come all the time: one every 20 us.
  const std::string seen = test::in_child([] {
    struct sigaction interrupt {};
    interrupt.sa_handler = [](int) { interrupts = interrupts + 1; };
    sigaction(SIGINT, &interrupt, nullptr);
    struct sigaction alarm {};
    alarm.sa_handler = [](int) { kill(getpid(), SIGINT); };
    alarm.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &alarm, nullptr);
    const itimerval often{{0, 20}, {0, 20}};
    setitimer(ITIMER_REAL, &often, nullptr);
    const std::vector<BytesPerSecond> capacity{BytesPerSecond{1000}};
    const auto net = FlowNet::open(capacity);
    const itimerval never{};
    setitimer(ITIMER_REAL, &never, nullptr);
    return std::string(interrupts > 0 ? "handled" : "none came");
  });
  EXPECT_EQ(seen, "handled");
}

}  // namespace
}  // namespace faultline::sim
