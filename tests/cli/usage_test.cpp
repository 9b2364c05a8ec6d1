// Arguments that are wrong, output that fits a terminal of 80 columns, and how soon the launcher is there.
#include <chrono>

#include "tests/cli/process.h"

namespace faultline {
namespace {

namespace fs = std::filesystem;
using test::call;
using test::Ended;
using test::Folder;
using test::Process;

struct Wrong {
  std::vector<std::string> arguments;
  std::string says;  // part of stderr (usage errors of the argument parser: of either stream)
};

TEST(CliUsage, WrongArgumentsEndWithStatusTwoAndSayWhatIsWrong) {
  const Folder f;
  test::write(f, "one.yaml", test::experiment_text("one", 10));
  const std::vector<Wrong> cases{
      {{}, "subcommand"},
      {{"bench", "smi"}, "unknown command 'smi' (did you mean 'sim'?)\n  commands: "},
      {{"rnu", "one.yaml"}, "unknown command 'rnu' (did you mean 'run'?)\n  commands: run, "},
      {{"run"}, "experiment is required"},
      {{"run", "one.yaml", "--sede", "3"}, "--sede"},
      {{"run", "one.yaml", "--seed", "three"}, "three"},
      {{"run", "one.yaml", "--seed", "-1"}, "--seed: expected a whole number from 0 to 9200000000000000000, got '-1'"},
      {{"run", "one.yaml", "--seed", "9200000000000000001"}, "got '9200000000000000001'"},
      {{"run", "one.yaml", "--seed", "18446744073709551617"}, "got '18446744073709551617'"},
      {{"check", "one.yaml", "--seed", "1.5"}, "got '1.5'"},
      {{"topology", "one.yaml", "--instances", "-1"}, "--instances = -1"},
      {{"trace", "one.csv", "--seed", "-1"}, "got '-1'"},
      {{"run", "oen.yaml"},
       "oen.yaml: error: cannot read the file: No such file or directory\n  (did you mean 'one.yaml'?)\n"},
      {{"run", "one.yaml", "one.yaml"}, "one.yaml: error: named twice\n"},
      {{"run", "one.yaml", "--trace", "no-such-trace.csv"}, "no-such-trace.csv"},
      {{"check", "."}, "it is a folder"},
      {{"sweep", "one.yaml", "--over", "fleet.instances=2"}, "fleet.instances"},
      {{"sweep", "one.yaml", "--seeds", "0"}, "--seeds"},
      {{"replay", "one.yaml"}, "one.yaml"},
      {{"run", "one.yaml", "--set", "fleet.instances"},
       "--set fleet.instances: error: expected a field and a value, such as 'fleet.instances=8'\n"},
  };
  for (const Wrong& c : cases) {
    const Ended e = call(f, c.arguments);
    EXPECT_TRUE(e.status == 2 || (e.status == 1 && c.arguments[0] == "replay"))
        << fmt::format("{}", fmt::join(c.arguments, " ")) << ": " << e.status;
    EXPECT_NE((e.err + e.out).find(c.says), std::string::npos) << fmt::format("{}", fmt::join(c.arguments, " ")) << "\n"
                                                               << e.err << e.out;
    EXPECT_FALSE(fs::exists(f / "out/one/summary.json")) << "nothing ran";
  }
}

TEST(CliUsage, AFileGivenWithSetIsLookedForWhereTheUserIsAndThenBesideTheExperiment) {
  const Folder f;
  const std::string file = test::write(f, "set/one.yaml", test::experiment_text("one", 10));
  test::write(f, "here.yaml", "{name: from here}");
  test::write(f, "set/beside.yaml", "{name: from beside}");
  test::write(f, "both.yaml", "{name: from here}");
  test::write(f, "set/both.yaml", "{name: from beside}");
  const auto engine = [&](const std::string& name) {
    return call(f, {"check", "set/one.yaml", "--resolved", "--set", "engine=" + name});
  };
  EXPECT_NE(engine("here.yaml").out.find("from here"), std::string::npos);
  EXPECT_NE(engine("beside.yaml").out.find("from beside"), std::string::npos);
  EXPECT_NE(engine("both.yaml").out.find("from here"), std::string::npos);
  const Ended missing = engine("none.yaml");
  EXPECT_EQ(missing.status, 2);
  EXPECT_NE(missing.err.find("--set engine=none.yaml: error: engine: cannot read 'set/none.yaml'\n"
                             "  'none.yaml' in the working directory cannot be read either\n"),
            std::string::npos)
      << missing.err;
}

/// Columns of a line as a terminal counts them: one a character; the program prints none that is wider.
std::size_t columns(std::string_view line) {
  std::size_t n = 0;
  for (const char c : line) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return n;
}

TEST(CliUsage, ReportsFitEightyColumns) {
  const Folder f;
  const std::string a = test::write(f, "a.yaml", test::experiment_text("pair/a", 30)),
                    b = test::write(f, "b.yaml", test::experiment_text("pair/b", 40));
  std::vector<std::vector<std::string>> commands{
      {"run", a},
      {"run", a, b},
      {"compare", "out/pair/a", "out/pair/b"},
      {"sweep", a, "--seeds", "2", "--over", "router.policy=[least_tokens, round_robin]"}};
  for (const auto& arguments : commands) {
    const Ended e = call(f, arguments);
    EXPECT_TRUE(e.status == 0 || arguments[0] == "compare") << arguments[0] << ": " << e.err;
    std::istringstream lines(e.out);
    for (std::string line; std::getline(lines, line);) {
      // A path that a user gave is as long as it is.
      if (line.find(f.path()) != std::string::npos || line.starts_with("written")) continue;
      EXPECT_LE(columns(line), 80U) << arguments[0] << ": " << line;
    }
  }
}

TEST(CliUsage, TheLauncherIsThereAtOnceWhereNothingHasChanged) {
  const Folder f;
  // A build folder whose stamp is newer than every source, as after a first call.
  fs::create_directories(f / "build/bin");
  fs::create_symlink(FAULTLINE_PROGRAM, f / "build/bin/faultline");
  test::write(f, "build/.built-faultline", "");
  setenv("FAULTLINE_BUILD_DIR", (f / "build").c_str(), 1);
  const auto began = std::chrono::steady_clock::now();
  const Ended e = Process(f, {"--version"}, test::source("faultline")).wait();
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
  unsetenv("FAULTLINE_BUILD_DIR");
  EXPECT_EQ(e.status, 0) << e.err;
  EXPECT_EQ(e.err, "") << "it neither installs nor builds";
  std::printf("    the second call of the launcher took %lld ms\n", static_cast<long long>(took.count()));
}

}  // namespace
}  // namespace faultline
