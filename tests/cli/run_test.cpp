// faultline run as a process: one experiment, several, a folder; Ctrl-C; disks that are full or not there.
#include <sys/mount.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process.h"

namespace faultline {
namespace {

namespace fs = std::filesystem;
using test::call;
using test::Ended;
using test::experiment_text;
using test::Folder;
using test::Process;
using test::slurp;

const char* const kOutputs[] = {"experiment.yaml", "summary.json", "requests.jsonl",
                                "events.flog",     "truth.jsonl",  "report.html"};

TEST(CliRun, AnExperimentLeavesItsOutputsAndPrintsItsReport) {
  const Folder f;
  const std::string file = test::write(f, "one.yaml", experiment_text("one", 20));
  const Ended e = call(f, {"run", file});
  EXPECT_EQ(e.status, 0) << e.err;
  for (const char* name : kOutputs) EXPECT_GT(fs::file_size(f / ("out/one/" + std::string(name))), 0U) << name;
  const auto summary = nlohmann::json::parse(slurp(f / "out/one/summary.json"));
  EXPECT_EQ(summary["requests"]["unaccounted"], 0);
  EXPECT_NE(e.out.find("out/one/"), std::string::npos) << "it says where they are";
  EXPECT_EQ(e.err, "");
}

TEST(CliRun, SeveralFilesGiveOneTableAndAFolderEach) {
  const Folder f;
  const std::string a = test::write(f, "a.yaml", experiment_text("pair/a", 10)),
                    b = test::write(f, "b.yaml", experiment_text("pair/b", 12));
  const Ended e = call(f, {"run", a, b, "--out", f / "results", "--no-html"});
  EXPECT_EQ(e.status, 0) << e.err;
  EXPECT_TRUE(fs::exists(f / "results/pair/a/summary.json"));
  EXPECT_TRUE(fs::exists(f / "results/pair/b/summary.json"));
  const auto table = nlohmann::json::parse(slurp(f / "results/pair/comparison.json"));
  ASSERT_EQ(table["rows"].size(), 2U);
  EXPECT_EQ(table["rows"][0]["experiment"], "pair/a");
  EXPECT_EQ(table["rows"][1]["experiment"], "pair/b");
}

TEST(CliRun, AFolderMeansItsExperimentsInNaturalOrder) {
  const Folder f;
  test::write(f, "set/w10.yaml", experiment_text("set/w10", 10));
  test::write(f, "set/w9.yaml", experiment_text("set/w9", 10));
  test::write(f, "set/README.md", "not an experiment");
  const Ended e = call(f, {"run", f / "set", "--no-html"});
  EXPECT_EQ(e.status, 0) << e.err;
  const auto table = nlohmann::json::parse(slurp(f / "out/set/comparison.json"));
  ASSERT_EQ(table["rows"].size(), 2U);
  EXPECT_EQ(table["rows"][0]["experiment"], "set/w9");
}

TEST(CliRun, SweepsAndPlansOfAFolderAreNamedWithTheirCommands) {
  const Folder f;
  test::write(f, "all/sweep.yaml", "name: all/s\nexperiment: one.yaml\ngrid: {seed: [1, 2]}\n");
  const Ended none = call(f, {"run", f / "all"});
  EXPECT_EQ(none.status, 2);
  EXPECT_EQ(none.err,
            fmt::format(
                "{0}: error: no experiment (*.yaml) in this folder\n  what there is: faultline sweep {0}/sweep.yaml\n",
                f / "all"));
  test::write(f, "all/one.yaml", experiment_text("all/one", 10));
  const Ended e = call(f, {"run", f / "all"});
  EXPECT_EQ(e.status, 0) << e.err;
  EXPECT_NE(e.err.find(fmt::format("not run here: faultline sweep {}/sweep.yaml\n", f / "all")), std::string::npos)
      << e.err;
  EXPECT_TRUE(fs::exists(f / "out/all/one/summary.json"));
}

TEST(CliRun, AnExperimentThatIsWrongKeepsAllOthersFromStarting) {
  const Folder f;
  const std::string good = test::write(f, "good.yaml", experiment_text("good", 10));
  const std::string bad = test::write(f, "bad.yaml", experiment_text("bad", 10) + "colour: blue\n");
  const Ended e = call(f, {"run", good, bad});
  EXPECT_EQ(e.status, 2);
  EXPECT_NE(e.err.find("bad.yaml:20:1: error: unknown key 'colour'"), std::string::npos) << e.err;
  EXPECT_FALSE(fs::exists(f / "out/good/summary.json"));
}

// ---- Ctrl-C
// -----------------------------------------------------------------------------------------------------------

/// The run is under way: its log has grown.
std::function<bool()> running(const std::string& out) {
  return [log = out + "/events.flog"] {
    std::error_code error;
    const auto size = fs::file_size(log, error);
    return !error && size > 0;
  };
}

TEST(CliRun, CtrlCKeepsWhatWasSimulated) {
  const Folder f;
  const std::string file = test::write(f, "long.yaml", experiment_text("long", 200'000));
  Process p(f, {"run", file});
  ASSERT_TRUE(p.until(running(f / "out/long"))) << p.wait().err;
  p.signal_group(SIGINT);
  const Ended e = p.wait();
  EXPECT_EQ(e.status, 130) << e.err;
  EXPECT_NE(e.err.find("interrupted"), std::string::npos) << e.err;
  for (const char* name : kOutputs) EXPECT_TRUE(fs::exists(f / ("out/long/" + std::string(name)))) << name;
  const auto summary = nlohmann::json::parse(slurp(f / "out/long/summary.json"));
  EXPECT_EQ(summary["requests"]["unaccounted"], 0);
  EXPECT_GT(summary["requests"]["completed"], 0);
  EXPECT_NE(summary["warnings"].dump().find("interrupted"), std::string::npos);
  // The log that is left is whole: its controllers can be run again.
  EXPECT_EQ(call(f, {"replay", f / "out/long/events.flog"}).status, 0);
}

TEST(CliRun, CtrlCInOneOfSeveralReportsItInPartAndStartsNoOther) {
  const Folder f;
  const std::string a = test::write(f, "a.yaml", experiment_text("many/a", 200'000)),
                    b = test::write(f, "b.yaml", experiment_text("many/b", 10));
  Process p(f, {"run", a, b, "--no-html"});
  ASSERT_TRUE(p.until(running(f / "out/many/a"))) << p.wait().err;
  p.signal_group(SIGINT);
  const Ended e = p.wait();
  EXPECT_EQ(e.status, 130) << e.err;
  EXPECT_NE(e.err.find("not run: " + b), std::string::npos) << e.err;
  EXPECT_FALSE(fs::exists(f / "out/many/b/summary.json"));
  const auto table = nlohmann::json::parse(slurp(f / "out/many/comparison.json"));
  ASSERT_EQ(table["rows"].size(), 1U);
  EXPECT_NE(e.out.find("a (part)"), std::string::npos) << e.out;
}

// ---- where outputs cannot be written
// ------------------------------------------------------------------------------------

TEST(CliRun, AFullDiskIsAnErrorThatNamesTheFile) {
  for (const char* name : {"events.flog", "summary.json.partial", "requests.jsonl.partial"}) {
    const Folder f;
    const std::string file = test::write(f, "one.yaml", experiment_text("one", 20));
    fs::create_directories(f / "out");
    fs::create_symlink("/dev/full", f / ("out/" + std::string(name)));
    const Ended e = call(f, {"run", file, "--out", f / "out"});
    EXPECT_EQ(e.status, 1) << name;
    std::string said = f / ("out/" + std::string(name));
    if (const auto partial = said.rfind(".partial"); partial != std::string::npos) said.resize(partial);
    EXPECT_EQ(e.err, "faultline: error: cannot write " + said + ": No space left on device\n");
    EXPECT_FALSE(fs::exists(f / "out/report.html")) << "the run is not reported as if it were whole";
  }
}

TEST(CliRun, ADiskThatFillsUpDuringTheRunLeavesNoHalfFileUnderItsFinalName) {
  const Folder f;
  const std::string disk = f / "disk";
  fs::create_directories(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) GTEST_SKIP() << "no right to mount a tmpfs here";
  const std::string file = test::write(f, "one.yaml", experiment_text("one", 2'000));
  const Ended e = call(f, {"run", file, "--out", disk});
  EXPECT_EQ(e.status, 1) << e.out;
  EXPECT_NE(e.err.find("No space left on device"), std::string::npos) << e.err;
  EXPECT_FALSE(fs::exists(disk + "/summary.json"));
  umount(disk.c_str());
}

TEST(CliRun, AnOutputFolderThatCannotBeMadeIsAnErrorBeforeAnythingRuns) {
  const Folder f;
  const std::string file = test::write(f, "one.yaml", experiment_text("one", 20));
  test::write(f, "taken", "a file, not a folder");
  const Ended e = call(f, {"run", file, "--out", f / "taken/out"});
  EXPECT_EQ(e.status, 1);
  EXPECT_EQ(e.err, fmt::format("faultline: error: cannot make the folder {}: Not a directory\n", f / "taken/out"));
}

}  // namespace
}  // namespace faultline
