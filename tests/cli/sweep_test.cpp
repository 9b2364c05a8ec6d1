// faultline sweep as a process: it can be stopped at any moment, and goes on where it was.
#include <sys/mount.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process.h"

namespace faultline {
namespace {

namespace fs = std::filesystem;
using test::call;
using test::Ended;
using test::Folder;
using test::Process;

struct Sweep {
  Folder f;
  std::string file = test::write(f, "one.yaml", test::experiment_text("one", 400));
  std::vector<std::string> arguments{"sweep",   file,      "--over", "router.policy=[least_tokens, round_robin]",
                                     "--seeds", "8",       "-j",     "1",
                                     "--json",  "--quiet", "--out",  f / "results.sqlite"};
  static constexpr int kReplicas = 16;

  /// What a further call of the same command computes and what it finds.
  nlohmann::json finish() {
    const Ended e = call(f, arguments);
    EXPECT_EQ(e.status, 0) << e.err;
    return nlohmann::json::parse(e.out);
  }
  /// Some replicas are stored: the write-ahead log has grown with the first ones.
  std::function<bool()> under_way() {
    return [wal = f / "results.sqlite-wal"] {
      std::error_code error;
      const auto size = fs::file_size(wal, error);
      return !error && size > 40'000;
    };
  }
};

void expect_whole(const nlohmann::json& r) {
  EXPECT_EQ(r["computed"].get<int>() + r["kept"].get<int>(), Sweep::kReplicas);
  for (const auto& point : r["points"]) EXPECT_EQ(point["replicas"], 8);
}

TEST(CliSweep, AKilledSweepGoesOnAndComputesNothingTwice) {
  Sweep s;
  {
    Process p(s.f, s.arguments);
    ASSERT_TRUE(p.until(s.under_way())) << p.wait().err;
    p.signal_group(SIGKILL);
    EXPECT_EQ(p.wait().status, -SIGKILL);
  }
  const auto second = s.finish();
  expect_whole(second);
  EXPECT_GT(second["kept"], 0) << "what the killed one had stored";
  EXPECT_GT(second["computed"], 0) << "it was killed before its end";
  const auto third = s.finish();
  EXPECT_EQ(third["computed"], 0);
  EXPECT_EQ(third["kept"], Sweep::kReplicas);
  EXPECT_EQ(second["points"], third["points"]);
}

TEST(CliSweep, CtrlCKeepsWhatIsDoneAndTheSameCommandGoesOn) {
  Sweep s;
  Process p(s.f, s.arguments);
  ASSERT_TRUE(p.until(s.under_way())) << p.wait().err;
  p.signal_group(SIGINT);
  const Ended e = p.wait();
  EXPECT_EQ(e.status, 130) << e.err;
  EXPECT_NE(e.err.find("interrupted: what is done is kept"), std::string::npos) << e.err;
  const auto first = nlohmann::json::parse(e.out);
  const auto second = s.finish();
  expect_whole(second);
  EXPECT_EQ(second["kept"], first["computed"]);
}

TEST(CliSweep, AnInterruptedSweepEndsWithTheFiguresOfOneThatWasNot) {
  Sweep whole, cut;
  const auto expected = whole.finish();
  {
    Process p(cut.f, cut.arguments);
    ASSERT_TRUE(p.until(cut.under_way())) << p.wait().err;
    p.signal_group(SIGKILL);
  }
  EXPECT_EQ(cut.finish()["points"], expected["points"]);
}

TEST(CliSweep, PointsAreComparedWithTheBaselineSeedBySeed) {
  Folder f;
  const std::string file = test::write(f, "one.yaml", test::experiment_text("one", 100));
  std::vector<std::string> arguments{"sweep",  file,      "--over", "cost.gpu_hour=[1, 3]", "--seeds", "3",
                                     "--json", "--quiet", "--out",  f / "r.sqlite"};
  const std::string figure = "out 1M cost";
  const auto points_of = [&](const std::string& baseline) {
    if (!baseline.empty()) arguments.insert(arguments.end(), {"--baseline", baseline});
    const Ended e = call(f, arguments);
    EXPECT_EQ(e.status, 0) << e.err;
    return nlohmann::json::parse(e.out)["points"];
  };
  const auto points = points_of("");
  ASSERT_EQ(points.size(), 2U);
  EXPECT_FALSE(points[0][figure].contains("difference"));
  // Three times the price of the same runs: a difference of twice the cost, and as sure as the cost itself.
  const double cost = points[0][figure]["mean"], half = points[0][figure]["half_width_95"];
  EXPECT_NEAR(points[1][figure]["difference"]["mean"], 2 * cost, 1e-9 * cost);
  EXPECT_NEAR(points[1][figure]["difference"]["half_width_95"], 2 * half, 1e-9 * cost);
  EXPECT_EQ(points[1]["failed"]["difference"]["mean"], 0);
  EXPECT_EQ(points[1]["failed"]["difference"]["half_width_95"], 0);
  const auto turned = points_of(points[1]["point"]);
  EXPECT_NEAR(turned[0][figure]["difference"]["mean"], -2 * cost, 1e-9 * cost);
  arguments.back() = "two";
  const Ended unknown = call(f, arguments);
  EXPECT_EQ(unknown.status, 2);
  EXPECT_NE(unknown.err.find("--baseline: unknown point 'two'"), std::string::npos) << unknown.err;
}

TEST(CliSweep, AResultsFileThatIsNoneIsAnError) {
  Sweep s;
  test::write(s.f, "results.sqlite",
              "this is not a database, and long enough to be sure of that: " + std::string(4096, 'x'));
  const Ended e = call(s.f, s.arguments);
  EXPECT_EQ(e.status, 1);
  EXPECT_NE(e.err.find("results.sqlite: file is not a database"), std::string::npos) << e.err;
}

TEST(CliSweep, AFullDiskIsAnError) {
  Sweep s;
  const std::string disk = s.f / "disk";
  fs::create_directories(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=32k") != 0) GTEST_SKIP() << "no right to mount a tmpfs here";
  s.arguments.back() = disk + "/results.sqlite";
  const Ended e = call(s.f, s.arguments);
  umount(disk.c_str());
  EXPECT_EQ(e.status, 1) << e.out;
  EXPECT_NE(e.err.find("results.sqlite: "), std::string::npos) << e.err;
}

// Closed form 3 at rates where a plain sweep of this size sees nothing: lost GPU-seconds = rate * GPUs * time * (GPUs
// of what stops) * outage, the outage being that of a single strike.
TEST(CliSweep, RareFaultsAreDrawnWeighedAndComeOutAsTheClosedFormSays) {
  Folder f;
  std::string text = test::experiment_text("rare", 3600);
  const auto faults = text.find("faults: [");
  text.erase(faults, text.find('\n', faults) - faults);
  text +=
      "faults: [{id: gpu, kind: gpu.failstop, target: '*', random: {rate_per_hour: 1.0e-6}, repair: 100 s}]\n"
      "fidelity: fluid\nfluid: {repair_crews: 0}\n";
  const std::string file = test::write(f, "rare.yaml", text);
  const auto lost = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"sweep",  file,      "--seeds", "200",
                                       "--json", "--quiet", "--out",   f / "rare.sqlite"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ended e = call(f, arguments);
    EXPECT_EQ(e.status, 0) << e.err;
    return nlohmann::json::parse(e.out)["points"][0];
  };
  EXPECT_EQ(lost({})["hit"]["mean"], 0.0) << "as they come, none of 200 hours has a fault";
  const auto rare = lost({"--rare"});
  // One strike loses the 8 GPUs of an instance from the fault until it serves again.
  const auto one =
      call(f, {"run", file, "--json", "--quiet", "--set",
               "faults=[{id: gpu, kind: gpu.failstop, target: inst-0.d-0.gpu-1, at: 100 s, repair: 100 s}]"});
  ASSERT_EQ(one.status, 0) << one.err;
  const auto single = nlohmann::json::parse(one.out)["faults"][0];
  const double per_strike = single["blast_radius"]["capacity_loss_gpu_s"];
  // 16 GPUs, an hour; a strike in the last minutes is cut off by the end of the run, half of it on average.
  const double expected = 1e-6 * 16 * per_strike * (1 - single["phases_s"]["ready"].get<double>() / (2 * 3600));
  const double mean = rare["lost GPU-s"]["mean"], half = rare["lost GPU-s"]["half_width_95"];
  EXPECT_NEAR(mean, expected, half * 3.3 / 1.96 + 0.001 * expected);
  EXPECT_LT(half, 0.2 * expected);
  // Goodput is that of an undisturbed fleet but for a millionth: the base takes out what faults do not cause.
  const double goodput = rare["goodput tok/s"]["mean"];
  EXPECT_GT(goodput, 0);
  EXPECT_LT(rare["goodput tok/s"]["half_width_95"].get<double>(), 1e-3 * goodput);
}

}  // namespace
}  // namespace faultline
