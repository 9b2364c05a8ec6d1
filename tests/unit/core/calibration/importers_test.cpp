#include "core/calibration/importers.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>
#include <streambuf>

#include "tests/unit/core/calibration/data.h"

namespace faultline::calibration {
namespace {

using ::testing::HasSubstr;

struct Read {
  Dataset data;
  std::string errors;
};

Read import(std::string_view text, const ImportOptions& options = {}, const std::string& file = "file") {
  Read out;
  config::Diagnostics diagnostics;
  std::istringstream in{std::string(text)};
  const Format format = detect_format(text);
  EXPECT_TRUE(import_measurements(format, in, file, options, out.data, diagnostics)) << name_of(format);
  out.errors = diagnostics.text();
  return out;
}

struct Profile {
  ProfileFold fold;
  std::string errors;
};

Profile profile(const KernelRules& rules, std::string_view text, const ImportOptions& options = {}) {
  Profile out{ProfileFold(rules), {}};
  config::Diagnostics diagnostics;
  std::istringstream in{std::string(text)};
  EXPECT_TRUE(import_profile(detect_format(text.substr(0, 1 << 16)), in, "trace", options, out.fold, diagnostics));
  out.errors = diagnostics.text();
  return out;
}

TEST(AiterImport, OldAndNewHeaderGiveTheSameRow) {
  const auto old_header =
      import("cu_num,M,N,K,kernelId,us,kernelName,tflops\n304,16,512,7168,8,19.1,x_blockscale_y,6.15\n");
  const auto new_header = import(
      "gfx,cu_num,M,N,K,libtype,kernelId,splitK,us,kernelName,tflops,bw,errRatio\n"
      "gfx942,304,16,512,7168,ck,8,0,19.1,x_blockscale_y,6.15,190,0.0\n");
  EXPECT_EQ(old_header.errors + new_header.errors, "");
  ASSERT_EQ(old_header.data.gemm.size(), 1u);
  ASSERT_EQ(new_header.data.gemm.size(), 1u);
  EXPECT_EQ(old_header.data.gemm[0].us, new_header.data.gemm[0].us);
  EXPECT_EQ(old_header.data.gemm[0].precision, "fp8_block");
  EXPECT_EQ(new_header.data.gemm[0].precision, "fp8_block");
  EXPECT_EQ(new_header.data.gemm[0].origin.hardware, "gfx942-304");
}

TEST(AiterImport, MixedDevicesAreAnErrorWithItsPlaceUnlessOneIsChosen) {
  constexpr std::string_view text =
      "gfx,cu_num,M,N,K,us,tflops\ngfx942,304,16,512,7168,19.1,6.1\ngfx950,256,16,512,7168,9.1,12.9\n";
  const auto mixed = import(text);
  EXPECT_THAT(mixed.errors,
              HasSubstr("file:3:8: error: column cu_num: mixed devices: 'gfx950/256' here, 'gfx942/304' in line 2"));
  const auto chosen = import(text, {.hardware = {}, .device = "gfx950/256"});
  EXPECT_EQ(chosen.errors, "");
  ASSERT_EQ(chosen.data.gemm.size(), 1u);
  EXPECT_EQ(chosen.data.gemm[0].us, 9.1);
}

TEST(AiterImport, NaNNegativeAndMissingValuesAreErrorsWithTheirPlace) {
  const auto read = import(
      "cu_num,M,N,K,us\n304,16,512,7168,nan\n304,16,512,7168,-3\n304,16,512\n304,0,512,7168,3\n304,16,512,7168,5\n");
  EXPECT_THAT(read.errors, HasSubstr("file:2:17: error: column us: expected a finite number, got 'nan'"));
  EXPECT_THAT(read.errors, HasSubstr("file:3:17: error: column us: expected 0.001 to 1e+09, got '-3'"));
  EXPECT_THAT(read.errors, HasSubstr("file:4:1: error: expected 5 values, got 3"));
  EXPECT_THAT(read.errors, HasSubstr("file:5:5: error: column M"));
  EXPECT_EQ(read.data.gemm.size(), 1u);
}

TEST(AiterImport, MillisecondsAreFoundByTheTunersOwnRate) {
  // 2 * 4096 * 7168 * 2304 flops in 140 us are 966 TFLOP/s.
  const auto read = import("cu_num,M,N,K,us,tflops\n304,4096,7168,2304,0.140,966\n");
  EXPECT_THAT(read.errors, HasSubstr("file:2:20: error: column us: 0.140 contradicts 966 TFLOP/s"));
}

TEST(AiterImport, TimesThatTheTunerCopiedAreMarkedAndNotFitted) {
  const auto read = import(
      "cu_num,token,model_dim,inter_dim,expert,topk,q_type,q_dtype_w,us,run_1stage\n"
      "304,16,7168,2048,33,9,QuantType.per_1x128,fp8,354.3,0\n304,32,7168,2048,33,9,QuantType.per_1x128,fp8,354.3,0\n");
  ASSERT_EQ(read.data.moe.size(), 2u);
  EXPECT_EQ(read.data.moe[0].origin.unusable, "");
  EXPECT_THAT(read.data.moe[1].origin.unusable, HasSubstr("copied by the tuner"));
}

constexpr std::string_view kMori =
    R"({"version": "1.0", "gpu_model": "mi300x", "kernel_type": "IntraNode", "ep_size": 8, "phase": "dispatch",
  "rules": [
    {"dtype": "fp8_e4m3_fnuz", "num_tokens": 128, "hidden_dim": 7168, "topk": 6, "bandwidth_gbps": 106.25, "latency_us": 38.58},
    {"dtype": "bf16", "num_tokens": 128, "hidden_dim": 7168, "bandwidth_gbps": 190.88, "avg_latency_us": 51.43}
  ]})";

TEST(MoriImport, ReadsBothKeySetsAndTheDefaultTopk) {
  const auto read = import(kMori);
  EXPECT_EQ(read.errors, "");
  ASSERT_EQ(read.data.exchange.size(), 2u);
  EXPECT_EQ(read.data.exchange[0].dtype, "fp8");
  EXPECT_EQ(read.data.exchange[0].topk, 6);
  EXPECT_EQ(read.data.exchange[1].topk, 8);
  EXPECT_EQ(read.data.exchange[1].us, 51.43);
  EXPECT_EQ(read.data.exchange[1].origin.hardware, "MI300X");
}

TEST(MoriImport, TruncatedJsonAndWrongUnitsAreErrorsWithTheirLine) {
  const auto cut = import(kMori.substr(0, kMori.size() - 40));
  EXPECT_THAT(cut.errors, HasSubstr("file:4:"));
  EXPECT_THAT(cut.errors, HasSubstr("the JSON is cut off"));
  std::string seconds(kMori);
  seconds.replace(seconds.find("38.58"), 5, "0.03858");
  EXPECT_THAT(import(seconds).errors, HasSubstr("file:3:1: error: rules[0]: 0.03858 us contradicts 106.25 GB/s"));
  std::string negative(kMori);
  negative.replace(negative.find("51.43"), 5, "-1.0 ");
  EXPECT_THAT(import(negative).errors, HasSubstr("file:4:1: error: rules[1]: latency_us"));
}

TEST(MoriIoImport, BatchIsAColumnOrFollowsFromTheTotalSize) {
  const auto with = import(
      "| MsgSize (B) | BatchSize | TotalSize (MB) | Max BW (GB/s) | Avg Bw (GB/s) | Min Lat (us) | Avg Lat (us) |\n"
      "|  65536  |  128  |  8.39  |  41.74  |  41.39  |  200.99  |  202.70  |\n");
  const auto without = import(
      "| MsgSize (B) | TotalSize (MB) | Max BW (GB/s) | Avg Bw (GB/s) | Min Lat (us) | Avg Lat (us) |\n"
      "|  65536  |  16.78  |  37.51  |  36.55  |  447.27  |  458.96  |\n");
  EXPECT_EQ(with.errors + without.errors, "");
  ASSERT_EQ(with.data.transfer.size() + without.data.transfer.size(), 2u);
  EXPECT_EQ(with.data.transfer[0].batch, 128);
  EXPECT_EQ(without.data.transfer[0].batch, 256);
}

TEST(PerftestImport, ItsMegabyteIs1048576Bytes) {
  const auto mb = import(
      " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n 65536      5000             "
      "46000.00            45776.37            0.732422\n");
  const auto gbit = import(
      " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]\n 65536      5000             "
      "390.0            384.0            0.732422\n");
  EXPECT_EQ(mb.errors + gbit.errors, "");
  ASSERT_EQ(mb.data.transfer.size() + gbit.data.transfer.size(), 2u);
  // 45776.37 * 2^20 B/s = 48 GB/s: both rows are 65536 B / 48 GB/s = 1.365 us; the printed numbers have 7 digits.
  EXPECT_NEAR(mb.data.transfer[0].us, 65536 / 48e3, 1e-5);
  EXPECT_NEAR(gbit.data.transfer[0].us, 65536 / 48e3, 1e-9);
}

TEST(PerftestImport, LatencyTablesUseTheAverage) {
  const auto read = import(
      " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]\n 64 1000 "
      "1.70 3.00 1.75 1.77 0.02\n");
  ASSERT_EQ(read.data.transfer.size(), 1u);
  EXPECT_EQ(read.data.transfer[0].us, 1.77);
}

TEST(RcclTestsImport, ReadsTheOutOfPlaceTimeAndCountsTheRanks) {
  const auto read = import(
      "# nThread 1 all_reduce_perf\n#  Rank  0 Group  0 Pid 1 on a device  0 [0x0] x\n#  Rank  1 Group  0 Pid 1 on a "
      "device  1 [0x1] x\n"
      "#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw "
      "#wrong\n"
      "     1048576        262144     float     sum      -1    29.12   36.01   63.02      0    28.77   36.45   63.78   "
      "   0\n");
  EXPECT_EQ(read.errors, "");
  ASSERT_EQ(read.data.collective.size(), 1u);
  EXPECT_EQ(read.data.collective[0].us, 29.12);
  EXPECT_EQ(read.data.collective[0].ranks, 2);
  EXPECT_EQ(read.data.collective[0].operation, "all_reduce");
}

TEST(RcclTestsImport, ARateThatIsNoNumberOrContradictsTheTimeIsAnErrorWithItsPlace) {
  const std::string head = "#  size  count  type  redop  root  time  algbw  busbw #wrong\n";
  EXPECT_THAT(import(head + "1048576 262144 float sum -1 35.00 nan 52.43 0\n").errors,
              HasSubstr("file:2:35: error: algbw: expected a number that is not negative, got 'nan'"));
  EXPECT_THAT(import(head + "1048576 262144 float sum -1 0.035 29.96 52.43 0\n").errors,
              HasSubstr("0.035 us contradicts 29.96 GB/s of the same row"));
}

TEST(VllmBenchImport, ReadsTokensAndLatenciesAndRefusesNegativeOnes) {
  const std::string text =
      R"({"date": "20260101-000000", "model_id": "m", "duration": 10.5, "completed": 100, "total_input_tokens": 200000,
    "total_output_tokens": 10000, "mean_ttft_ms": 120.5, "mean_tpot_ms": 30.25})";
  const auto read = import(text);
  EXPECT_EQ(read.errors, "");
  ASSERT_EQ(read.data.serving.size(), 1u);
  EXPECT_EQ(read.data.serving[0].tpot_ms_mean, 30.25);
  std::string bad = text;
  bad.replace(bad.find("30.25"), 5, "-30.2");
  EXPECT_THAT(import(bad).errors, HasSubstr("mean_tpot_ms: expected a number that is not negative"));
}

constexpr std::string_view kTrace = R"({"schemaVersion": 1, "traceEvents": [
 {"ph": "M", "name": "process_name", "pid": 2, "args": {"name": "python"}},
 {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "ts": 1.0, "dur": 500.0},
 {"ph": "X", "cat": "kernel", "name": "Cijk_A", "pid": 2, "tid": 3, "ts": 10.5, "dur": 20.25, "args": {"device": 2, "stream": 3, "grid": [4, 1, 1]}},
 {"ph": "X", "cat": "kernel", "name": "mystery", "pid": 2, "ts": 31, "dur": 10, "args": {"device": 2, "stream": 3}},
 {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoD", "pid": 2, "ts": 50, "dur": 5, "args": {"device": 2, "stream": 3}}]})";

TEST(KinetoImport, AccountsForAllGpuTimeAndNamesWhatNoRuleMaps) {
  const KernelRules rules = builtin_rules();
  const auto p = profile(rules, kTrace);
  EXPECT_EQ(p.errors, "");
  EXPECT_EQ(p.fold.events(), 3);
  EXPECT_EQ(p.fold.busy().v, 35'250);
  EXPECT_EQ(p.fold.by_operation().at("gemm").total_ns, 20'250);
  EXPECT_EQ(p.fold.by_operation().at("copy").total_ns, 5'000);
  ASSERT_EQ(p.fold.unmapped().size(), 1u);
  EXPECT_EQ(p.fold.unmapped()[0].first, "mystery");
  EXPECT_EQ(p.fold.unmapped_time().v, 10'000);
}

TEST(KinetoImport, BadTracesAreErrorsWithTheirPlace) {
  const KernelRules rules = builtin_rules();
  EXPECT_THAT(profile(rules, kTrace.substr(0, kTrace.size() - 30)).errors, HasSubstr("trace:6:"));
  EXPECT_THAT(profile(rules, kTrace.substr(0, kTrace.size() - 30)).errors, HasSubstr("the JSON is cut off at byte"));
  std::string negative(kTrace);
  negative.replace(negative.find("20.25"), 5, "-20.2");
  EXPECT_THAT(profile(rules, negative).errors, HasSubstr("traceEvents[2]: dur is -20.2 us"));
  // Line and column of the event's opening brace, also far behind the first block that is read.
  const auto place = [](const std::string& text, std::size_t at) {
    const std::size_t brace = text.rfind('{', text.rfind("\"ph\"", at)), line = text.rfind('\n', brace) + 1;
    return fmt::format("trace:{}:{}: error: ",
                       1 + std::count(text.begin(), text.begin() + static_cast<int>(brace), '\n'), brace - line + 1);
  };
  EXPECT_THAT(profile(rules, negative).errors, HasSubstr(place(negative, negative.find("-20.2")) + "traceEvents[2]"));
  std::string far(negative);
  far.insert(far.find(" {\"ph\": \"X\", \"cat\": \"kernel\""),
             std::string(100, ' ') + "\n\n" + std::string(200'000, ' '));
  EXPECT_THAT(profile(rules, far).errors, HasSubstr(place(far, far.find("-20.2")) + "traceEvents[2]"));
  std::string mixed(kTrace);
  mixed.replace(mixed.rfind("\"device\": 2"), 11, "\"device\": 7");
  EXPECT_THAT(profile(rules, mixed).errors,
              HasSubstr("traceEvents[4]: mixed devices: an event of device '7' after events of '2'"));
  EXPECT_EQ(profile(rules, mixed, {.hardware = {}, .device = "7"}).fold.busy().v, 5'000);
  std::string nan(kTrace);
  nan.replace(nan.find("20.25"), 5, "NaN  ");
  EXPECT_THAT(profile(rules, nan).errors, HasSubstr("trace:4:"));
}

// A stream that makes a trace of any length without holding it.
class Endless final : public std::streambuf {
 public:
  explicit Endless(std::int64_t events) : left_(events) {}
  std::int64_t bytes() const { return bytes_; }

 protected:
  int_type underflow() override {
    if (stage_ == 2) return traits_type::eof();
    if (stage_ == 0) text_ = "{\"traceEvents\": [";
    else if (left_ > 0)
      text_ = std::string(R"({"ph":"X","cat":"kernel","name":"Cijk_)") + std::string(200, 'x') +
              R"(","pid":2,"ts":1,"dur":2,"args":{"device":2}})" + (left_ > 1 ? "," : "");
    else text_ = "]}";
    if (stage_ == 1 && left_-- == 0) stage_ = 2;
    if (stage_ == 0) stage_ = 1;
    bytes_ += static_cast<std::int64_t>(text_.size());
    setg(text_.data(), text_.data(), text_.data() + text_.size());
    return traits_type::to_int_type(*gptr());
  }

 private:
  std::string text_;
  int stage_ = 0;
  std::int64_t left_, bytes_ = 0;
};

std::int64_t resident_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmRSS:") {
      std::int64_t kib = 0;
      status >> kib;
      return kib;
    }
  return 0;
}

TEST(KinetoImport, MemoryDoesNotGrowWithTheTrace) {
  const KernelRules rules = builtin_rules();
  ProfileFold fold(rules);
  config::Diagnostics diagnostics;
  Endless buffer(200'000);
  std::istream in(&buffer);
  const std::int64_t before = resident_kib();
  import_profile(Format::kineto, in, "trace", {}, fold, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  EXPECT_EQ(fold.events(), 200'000);
  EXPECT_EQ(fold.busy().v, 400'000'000);
  EXPECT_GT(buffer.bytes(), 50'000'000);
  // Of a 60 MB trace; a tree of it would need ten times its size. 0: the system does not tell.
  EXPECT_LT(before > 0 ? resident_kib() - before : 0, 16'384);
}

TEST(RocprofImport, CsvIsReadByColumnNameAndQuotedNamesMayHoldCommas) {
  const KernelRules rules = builtin_rules();
  const auto p = profile(rules,
                         "\"End_Timestamp\",\"Kernel_Name\",\"Agent_Id\",\"Start_Timestamp\"\n1100,\"Cijk<a, "
                         "\"\"b\"\">\",\"Agent 2\",1000\n");
  EXPECT_EQ(p.errors, "");
  EXPECT_EQ(p.fold.busy().v, 100);
  EXPECT_EQ(p.fold.by_kernel().begin()->first, "Cijk<a, \"b\">");
  const auto backwards = profile(rules, "Kernel_Name,Agent_Id,Start_Timestamp,End_Timestamp\nk,1,1000,900\n");
  EXPECT_THAT(backwards.errors,
              HasSubstr("trace:2:10: error: column End_Timestamp: the kernel ends at 900 before it starts at 1000"));
  const auto mixed = profile(rules, "Kernel_Name,Agent_Id,Start_Timestamp,End_Timestamp\nk,1,1,2\nk,2,2,3\n");
  EXPECT_THAT(mixed.errors, HasSubstr("trace:3:1: error: mixed devices"));
}

TEST(OpLogImport, ReadsOurOwnOperations) {
  const KernelRules rules = builtin_rules();
  const auto p = profile(rules,
                         "{\"op\": \"gemm\", \"rank\": 0, \"start_ns\": 5, \"duration_ns\": 70}\n{\"op\": \"gemm\", "
                         "\"rank\": 0, \"start_ns\": 80, \"duration_ns\": -1}\n");
  EXPECT_THAT(p.errors, HasSubstr("trace:2:1: error: needs op, start_ns and a duration_ns of 0 or more"));
  EXPECT_EQ(p.fold.by_operation().at("gemm").total_ns, 70);
}

TEST(OpLogImport, AnOperationMayBeNamedAsItself) {
  const KernelRules rules = builtin_rules();
  for (const std::string& operation : operation_names()) EXPECT_EQ(rules.operation_of(operation), operation);
}

TEST(KernelRules, AUsersRuleComesFirstAndMistakesAreSuggested) {
  KernelRules rules = builtin_rules();
  EXPECT_EQ(rules.operation_of("Cijk_Alik"), "gemm");
  config::Diagnostics good;
  rules.add("rules:\n  - {operation: other, pattern: \"^Cijk_*lik$\"}\n", "mine.yaml", good);
  EXPECT_EQ(good.text(), "");
  EXPECT_EQ(rules.operation_of("Cijk_Alik"), "other");
  EXPECT_EQ(rules.operation_of("Cijk_Alik2"), "gemm");
  config::Diagnostics bad;
  rules.add("rules:\n  - {operation: gem, pattern: \"x\"}\n", "mine.yaml", bad);
  EXPECT_THAT(bad.text(), HasSubstr("mine.yaml:2:17: error: unknown operation 'gem'"));
  EXPECT_THAT(bad.text(), HasSubstr("did you mean 'gemm'?"));
}

// Check values of the shared profiles' provenance page: events and busy time.
struct Checked {
  const char* file;
  std::int64_t events, busy_ns;
};
class SharedProfile : public ::testing::TestWithParam<Checked> {};

TEST_P(SharedProfile, EventsAndBusyTimeAreThoseOfTheProvenancePage) {
  FAULTLINE_SHARED_FILE(path, std::string("traces/profiles/") + GetParam().file);
  const KernelRules rules = builtin_rules();
  const auto p = profile(rules, testing::read_unpacked(path));
  EXPECT_EQ(p.errors, "");
  EXPECT_EQ(p.fold.events(), GetParam().events);
  // The page gives three decimals of a microsecond, except where it rounds to one.
  const std::int64_t tolerance = GetParam().busy_ns % 100 == 0 ? 50 : 1;
  EXPECT_NEAR(static_cast<double>(p.fold.busy().v), static_cast<double>(GetParam().busy_ns),
              static_cast<double>(tolerance));
  std::int64_t mapped = 0;
  for (const auto& [name, time] : p.fold.by_operation()) mapped += time.total_ns;
  EXPECT_EQ(mapped + p.fold.unmapped_time().v, p.fold.busy().v);
}

INSTANTIATE_TEST_SUITE_P(Provenance, SharedProfile,
                         ::testing::Values(Checked{"mi300x_sglang_qwen3-8b_decode_bs32.kineto.json.gz", 558, 9'778'600},
                                           Checked{"mi300x_sglang_qwen3-8b_decode_last60.kineto.json", 60, 1'426'872},
                                           Checked{"mi300x_vllm_mxfp4moe_decode_bs32.kineto.json.gz", 434, 10'717'700},
                                           Checked{"mi300x_hf_qwen1.5-0.5b.kineto.json.gz", 1517, 43'062'802},
                                           Checked{"mi250_minitoy.kineto.json", 16, 149'042},
                                           Checked{"mi350x_rocprofv3_train_results.json.gz", 1500, 71'179'038},
                                           Checked{"mi350x_rocprofv3_train_kernel_trace.csv.gz", 1500, 71'179'038}),
                         [](const auto& given) {
                           std::string name = given.param.file;
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

TEST(SharedData, BothRocprofLayoutsGiveTheSameKernelsAndRcclTime) {
  FAULTLINE_SHARED_FILE(json, "traces/profiles/mi350x_rocprofv3_train_results.json.gz");
  FAULTLINE_SHARED_FILE(csv, "traces/profiles/mi350x_rocprofv3_train_kernel_trace.csv.gz");
  const KernelRules rules = builtin_rules();
  const auto a = profile(rules, testing::read_unpacked(json)), b = profile(rules, testing::read_unpacked(csv));
  ASSERT_EQ(a.fold.by_kernel().size(), b.fold.by_kernel().size());
  for (const auto& [name, time] : a.fold.by_kernel()) {
    ASSERT_TRUE(b.fold.by_kernel().contains(name)) << name;
    EXPECT_EQ(b.fold.by_kernel().at(name).total_ns, time.total_ns) << name;
  }
  EXPECT_EQ(a.fold.by_operation().at("collective").count, 48);
  EXPECT_EQ(a.fold.by_operation().at("collective").total_ns, 61'137'204);
}

TEST(SharedData, DecodeProfilesAreMappedCompletely) {
  for (const char* name :
       {"mi300x_sglang_qwen3-8b_decode_bs32.kineto.json.gz", "mi300x_vllm_mxfp4moe_decode_bs32.kineto.json.gz"}) {
    FAULTLINE_SHARED_FILE(path, std::string("traces/profiles/") + name);
    const KernelRules rules = builtin_rules();
    EXPECT_EQ(profile(rules, testing::read_unpacked(path)).fold.unmapped_time().v, 0) << name;
  }
}

struct Counted {
  const char* file;
  std::size_t rows;
};
class SharedTable : public ::testing::TestWithParam<Counted> {};

TEST_P(SharedTable, EveryRowImports) {
  FAULTLINE_SHARED_FILE(path, GetParam().file);
  const auto read = import(testing::read_unpacked(path), {}, path);
  EXPECT_EQ(read.errors, "");
  EXPECT_EQ(read.data.size(), GetParam().rows);
}

// Rows of the provenance page; README and DeepEP rows hold a dispatch and a combine, MLA rows up to two kernels.
INSTANTIATE_TEST_SUITE_P(
    Provenance, SharedTable,
    ::testing::Values(Counted{"mi300x/aiter_gemm_fp8_blockscale_gfx942_304cu.csv", 15852},
                      Counted{"mi300x/aiter_gemm_other_precisions_gfx942_304cu.csv", 73},
                      Counted{"mi300x/aiter_fmoe_gfx942_304cu.csv", 63},
                      Counted{"mi300x/mori_ep_tuning_mi300x.csv", 143}, Counted{"mi300x/mori_ep_readme_tables.csv", 48},
                      Counted{"mi300x/mori_io_rdma_bandwidth.csv", 86},
                      Counted{"mi300x/aiter_mla_decode_points.csv", 35},
                      Counted{"mi300x/other_gpus/aiter_gemm_mi308x_gfx942_80cu.csv", 1770},
                      Counted{"mi300x/other_gpus/aiter_fmoe_mi308x_gfx942_80cu.csv", 624},
                      Counted{"mi300x/other_gpus/aiter_gemm_mi35x_gfx950_256cu.csv", 15508},
                      Counted{"mi300x/other_gpus/aiter_fmoe_mi35x_gfx950_256cu.csv", 904},
                      Counted{"mi300x/other_gpus/mori_ep_tuning_mi308x_mi350x_mi355x.csv", 457},
                      Counted{"mi300x/other_gpus/deepep_v1_h800_cx7.csv", 20},
                      Counted{"traces/microbench/mori_gfx942_mi300x_IntraNode_ep8_dispatch.json", 27},
                      Counted{"traces/microbench/mori_gfx942_mi300x_IntraNode_ep8_combine.json", 40},
                      Counted{"traces/microbench/mori_gfx942_mi308x_InterNodeV1LL_ep16_dispatch.json", 10},
                      Counted{"traces/microbench/mori_gfx942_mi308x_InterNodeV1LL_ep16_combine.json", 6},
                      Counted{"traces/microbench/aiter_a8w8_blockscale_tuned_gemm_ds_v3_mi300x.csv", 106},
                      Counted{"traces/microbench/aiter_a8w8_blockscale_tuned_fmoe_ds_v3_mi300x.csv", 12},
                      Counted{"traces/microbench/aiter_tuned_fmoe_newschema_mi300x.csv", 5},
                      Counted{"traces/microbench/aiter_bf16_tuned_gemm_gfx950_schema_sample.csv", 70}),
    [](const auto& given) {
      std::string name = given.param.file;
      for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
      return name;
    });

TEST(KernelBenchImport, ReadsGemmExpertsAndDecodeAttentionWithTheDevicesTag) {
  const auto got = import(
      R"({"op":"qkv_down","kind":"gemm","precision":"fp8","m":16,"n":2112,"k":7168,"ns":17500,"device":"sm_90 NVIDIA H100 80GB HBM3"}
{"op":"q_absorb","kind":"gemm","precision":"bf16","m":16,"n":512,"k":128,"batch":128,"ns":13100,"device":"sm_90 NVIDIA H100 80GB HBM3"}
{"op":"experts","kind":"grouped_gemm","precision":"fp8","m":1152,"n":4096,"k":7168,"groups":33,"tokens":128,"ns":680500,"device":"sm_90 NVIDIA H100 80GB HBM3"}
{"op":"mla_decode","kind":"decode_attention","precision":"fp8","sequences":64,"tokens":64,"context":262144,"heads":16,"ns":116400,"device":"sm_90 NVIDIA H100 80GB HBM3"}
{"op":"sample","kind":"elementwise","precision":"fp32","n":129280,"tokens":16,"ns":37500,"device":"sm_90 NVIDIA H100 80GB HBM3"}
)");
  EXPECT_EQ(got.errors, "");
  ASSERT_EQ(got.data.gemm.size(), 2U);
  EXPECT_EQ(got.data.gemm[0].precision, "fp8_block");
  EXPECT_EQ(got.data.gemm[0].us, 17.5);
  EXPECT_EQ(got.data.gemm[0].origin.hardware, "H100");
  EXPECT_EQ(got.data.gemm[1].batch, 128);
  ASSERT_EQ(got.data.moe.size(), 1U);
  EXPECT_EQ(got.data.moe[0].topk, 9);
  EXPECT_EQ(got.data.moe[0].inter, 2048);
  ASSERT_EQ(got.data.attention.size(), 1U);
  EXPECT_EQ(got.data.attention[0].context, 4096);
  const auto bad = import(
      "{\"op\":\"a\",\"kind\":\"gemm\",\"m\":1,\"ns\":5}\n{\"op\":\"a\",\"kind\":\"gemm\",\"ns\":0}\n{\"op\": cut");
  EXPECT_THAT(bad.errors, HasSubstr("a gemm needs m, n and k"));
  EXPECT_THAT(bad.errors, HasSubstr("needs kind and a time ns above 0"));
  EXPECT_THAT(bad.errors, HasSubstr("the file may be cut off"));
  EXPECT_TRUE(bad.data.gemm.empty());
}

TEST(SharedData, PrintedMoriIoTablesAgreeWithTheNormalisedOne) {
  FAULTLINE_SHARED_FILE(printed, "traces/microbench/mori_io_thor2_read_stdout.txt");
  FAULTLINE_SHARED_FILE(table, "mi300x/mori_io_rdma_bandwidth.csv");
  const auto a = import(testing::read_unpacked(printed), {}, "thor2_read"), b = import(testing::read_unpacked(table));
  EXPECT_EQ(a.errors, "");
  std::size_t matched = 0;
  for (const auto& x : a.data.transfer)
    for (const auto& y : b.data.transfer)
      if (y.nic == x.nic && y.operation == x.operation && y.bytes == x.bytes && y.batch == x.batch && y.us == x.us)
        ++matched;
  EXPECT_EQ(matched, a.data.transfer.size());
  EXPECT_GT(matched, 10u);
}

}  // namespace
}  // namespace faultline::calibration
