// faultline plan as a process: it can be stopped at any moment and goes on where it was, alone or under mpirun; its
// answer is confirmed by step runs, and says what changes it.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/cli/process.h"
#include "tests/cli/rows.h"

namespace faultline {
namespace {

namespace fs = std::filesystem;
using test::call;
using test::Ended;
using test::Folder;
using test::Process;

struct Plan {
  Folder f;
  std::string file = make();
  std::vector<std::string> arguments(const std::string& out) const {
    return {"plan", file, "-j", "1", "--json", "--quiet", "--out", f / out};
  }
  std::map<std::string, std::string> rows(const std::string& out) const { return test::rows(f / out); }

 private:
  /// Small enough to be planned in seconds: two shapes, a fortnight, two profiles.
  std::string make() const {
    std::string text = test::experiment_text("load", 60);
    text.replace(text.find("rate: 20}"), 9, "rate: 400}");
    text += "recovery: {policy: spare_node}\n";
    const auto slo = text.find("  duration: 60 s\n");
    text.insert(slo, "  slo: [{name: all, ttft: 1 s, tpot: 40 ms}]\n");
    test::write(f, "load.yaml", text);
    return test::write(f, "plan.yaml",
                       "name: small\nexperiment: load.yaml\nprofiles: [" FAULTLINE_SOURCE_DIR
                       "/faults/profiles/ibm-vela.yaml, " FAULTLINE_SOURCE_DIR
                       "/faults/profiles/rsc1-a100-small.yaml]\ndecode_widths: [4]\nprefill_widths: [4]\n"
                       "period: 14 d\nseeds: 2\nspares_max: 4\nverify: 1\n");
  }
};

TEST(CliPlan, TheCheapestFleetIsConfirmedByAStepRunOrSaysWhyThereIsNone) {
  Plan p;
  const Ended e = call(p.f, p.arguments("plan.sqlite"));
  ASSERT_EQ(e.status, 0) << e.err;
  const auto plan = nlohmann::json::parse(e.out);
  ASSERT_EQ(plan["profiles"].size(), 2U);
  for (const auto& profile : plan["profiles"]) {
    ASSERT_FALSE(profile["cheapest"].is_null()) << e.out;
    EXPECT_GE(profile["cheapest"]["availability"], plan["target"]);
    ASSERT_EQ(profile["verified"].size(), 1U) << e.out;
    EXPECT_EQ(profile["verified"][0]["shape"], profile["cheapest"]["shape"]);
    EXPECT_GE(profile["verified"][0]["attainment"], plan["within_slo"]);
    for (const auto& shape : profile["shapes"]) {
      // A shape has a capacity that step runs hold, or a reason.
      const double factor = shape["capacity_factor"];
      EXPECT_TRUE((factor > 0 && factor <= 2.5) || !shape["refusal"].get<std::string>().empty()) << shape.dump();
      if (shape["best"].is_null()) {
        EXPECT_NE(shape["refusal"], "") << shape.dump();
      }
    }
  }
  // Every assumption was changed, and the answer moves the way it must.
  ASSERT_EQ(plan["sensitivity"].size(), 11U);
  const auto instances = [&](const std::string& change) {
    for (const auto& row : plan["sensitivity"]) {
      if (row["change"] == change) return std::stoi(row["cheapest"].get<std::string>());
    }
    return -1;
  };
  EXPECT_LE(instances("load x 0.8"), instances("load x 1.25"));
  EXPECT_GT(instances("load x 0.8"), 0);
}

TEST(CliPlan, AnInterruptKeepsWhatIsDoneAndTheSameCommandGoesOn) {
  Plan p;
  {
    Process process(p.f, p.arguments("plan.sqlite"));
    ASSERT_TRUE(process.until([&] { return p.rows("plan.sqlite").size() >= 2; })) << process.wait().err;
    process.signal_group(SIGINT);
    const Ended e = process.wait();
    EXPECT_EQ(e.status, 130) << e.err;
    EXPECT_NE(e.err.find("the same command goes on from there"), std::string::npos) << e.err;
  }
  const auto before = p.rows("plan.sqlite");
  EXPECT_GE(before.size(), 2U);
  const Ended second = call(p.f, p.arguments("plan.sqlite"));
  EXPECT_EQ(second.status, 0) << second.err;
  const auto after = p.rows("plan.sqlite");
  EXPECT_GT(after.size(), before.size()) << "it was stopped before its end";
  for (const auto& [key, row] : before) EXPECT_EQ(after.at(key), row);
  const Ended whole = call(p.f, p.arguments("whole.sqlite"));
  EXPECT_EQ(whole.out, second.out);
  EXPECT_EQ(p.rows("whole.sqlite"), after);
}

TEST(CliPlan, AChangedLimitHasItsOwnCalibrationAndNothingIsCalibratedTwice) {
  const auto calibrations = [](const std::map<std::string, std::string>& rows) {
    std::set<std::string> keys;
    for (const auto& [key, row] : rows) {
      if (key.find("calibrate-") != std::string::npos) keys.insert(key);
    }
    return keys;
  };
  Plan p;
  ASSERT_EQ(call(p.f, p.arguments("plan.sqlite")).status, 0);
  const auto of_plan = calibrations(p.rows("plan.sqlite"));
  // The plan with the limit that "TPOT limit x 1.25" assumes finds its calibrations there: they are not the plan's.
  auto at_limit = p.arguments("limit.sqlite");
  at_limit.insert(at_limit.end(), {"--no-sensitivity", "--set", "workload.slo.0.tpot=50 ms"});
  ASSERT_EQ(call(p.f, at_limit).status, 0);
  const auto of_limit = calibrations(p.rows("limit.sqlite"));
  auto plain = p.arguments("plain.sqlite");
  plain.push_back("--no-sensitivity");
  ASSERT_EQ(call(p.f, plain).status, 0);
  const auto of_plain = calibrations(p.rows("plain.sqlite"));
  ASSERT_FALSE(of_limit.empty());
  ASSERT_FALSE(of_plain.empty());
  for (const std::string& key : of_limit) {
    EXPECT_TRUE(of_plan.contains(key)) << key;
    EXPECT_FALSE(of_plain.contains(key)) << key;
  }
  // Of eleven changes two move a limit; the other nine share the plan's calibrations.
  for (const std::string& key : of_plain) EXPECT_TRUE(of_plan.contains(key)) << key;
  EXPECT_LE(of_plan.size(), of_plain.size() + 2 * std::max<std::size_t>(of_limit.size(), of_plain.size()));
  // Another limit of the prompts is another calibration, too.
  auto ttft = p.arguments("plain.sqlite");
  ttft.insert(ttft.end(), {"--no-sensitivity", "--set", "workload.slo.0.ttft=3 s"});
  ASSERT_EQ(call(p.f, ttft).status, 0);
  EXPECT_GT(calibrations(p.rows("plain.sqlite")).size(), of_plain.size());
  // Whoever asks again computes nothing.
  const auto before = p.rows("plain.sqlite");
  ASSERT_EQ(call(p.f, ttft).status, 0);
  EXPECT_EQ(p.rows("plain.sqlite"), before);
}

TEST(CliPlan, UnderMpirunAKilledPlanGoesOnToTheSameAnswer) {
  if (std::system("mpirun --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "mpirun is not installed";
  if (!fs::exists(fs::path(FAULTLINE_PROGRAM).parent_path() / "libfaultline_mpi.so")) GTEST_SKIP() << "no MPI";
  // Root and more ranks than cores: both usual on a build machine.
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  Plan p;
  const Ended one = call(p.f, p.arguments("one.sqlite"));
  ASSERT_EQ(one.status, 0) << one.err;
  std::vector<std::string> arguments{"mpirun", "--oversubscribe", "-np", "3", FAULTLINE_PROGRAM};
  for (const std::string& a : p.arguments("many.sqlite")) arguments.push_back(a);
  {
    Process job(p.f, arguments, "/usr/bin/env");
    ASSERT_TRUE(job.until([&] { return p.rows("many.sqlite").size() >= 2; })) << job.wait().err;
    job.signal_group(SIGKILL);
    job.wait();
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // ranks see their launcher gone
  const auto before = p.rows("many.sqlite");
  EXPECT_LT(before.size(), p.rows("one.sqlite").size());
  const Ended resumed = Process(p.f, arguments, "/usr/bin/env").wait();
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(p.rows("many.sqlite"), p.rows("one.sqlite"));
  EXPECT_EQ(resumed.out, one.out);
  for (const auto& [key, row] : before) EXPECT_EQ(p.rows("many.sqlite").at(key), row);
}

}  // namespace
}  // namespace faultline
