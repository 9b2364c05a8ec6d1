// The proof of the hardware path on machines without one: what the compiler made of every kernel for gfx942.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "kernels/runtime/code_objects.h"
#include "kernels/runtime/device.h"

namespace faultline::kernels {
namespace {

std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  std::array<char, 65536> chunk{};
  std::size_t n = 0;
  while ((n = fread(chunk.data(), 1, chunk.size(), pipe)) > 0) text.append(chunk.data(), n);
  pclose(pipe);
  return text;
}

// The assembly of one kernel.
std::string body(const std::string& listing, const std::string& kernel) {
  const auto start = listing.find("<fl_" + kernel + ">:");
  if (start == std::string::npos) return "";
  const auto end = listing.find(">:\n", start + kernel.size() + 8);
  return listing.substr(start, end == std::string::npos ? std::string::npos : end - start);
}

class Gfx942 : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (gfx942_code().empty()) return;
    const auto& out = *(listing_ = new std::string);
    (void)out;
    for (const CodeObject& object : gfx942_code()) {
      const std::string path = testing::TempDir() + "faultline_" + object.group + ".co";
      FILE* f = fopen(path.c_str(), "wb");
      ASSERT_NE(f, nullptr);
      fwrite(object.bytes.data(), 1, object.bytes.size(), f);
      fclose(f);
      *listing_ += output_of("llvm-objdump-19 -d " + path + " 2>&1");
    }
  }
  void SetUp() override {
    if (gfx942_code().empty()) GTEST_SKIP() << "built without clang-19: no gfx942 code in this binary";
    if (listing_->find("s_endpgm") == std::string::npos)
      GTEST_SKIP() << "llvm-objdump-19 is not installed: " << listing_->substr(0, 200);
  }
  static std::string* listing_;
};
std::string* Gfx942::listing_ = nullptr;

TEST_F(Gfx942, HoldsEveryKernel) {
  for (const KernelInfo& kernel : kernel_infos()) EXPECT_FALSE(body(*listing_, kernel.name).empty()) << kernel.name;
}

TEST_F(Gfx942, MatrixKernelsUseTheMatrixInstructionsOfTheirType) {
  const std::map<std::string, std::string> expected{{"gemm_fp8_m32", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"gemm_fp8_m64", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"gemm_fp8_m128", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"gemm_fp8_blocks_m32", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"gemm_fp8_blocks_m64", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"gemm_fp8_blocks_m128", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"gemm_bf16_m128", "v_mfma_f32_32x32x8_bf16"},
                                                    {"gemm_bf16_m32", "v_mfma_f32_32x32x8_bf16"},
                                                    {"gemm_bf16_m64", "v_mfma_f32_32x32x8_bf16"},
                                                    {"mla_decode_fp8", "v_mfma_f32_16x16x32_fp8_fp8"},
                                                    {"mla_decode_bf16", "v_mfma_f32_16x16x16_bf16"},
                                                    {"mla_prefill_bf16", "v_mfma_f32_32x32x8_bf16"},
                                                    {"gqa_decode_bf16", "v_mfma_f32_16x16x16_bf16"},
                                                    {"gqa_prefill_bf16", "v_mfma_f32_32x32x8_bf16"},
                                                    {"moe_gate_up_m32", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"moe_gate_up_m64", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"moe_down_m32", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"moe_down_m64", "v_mfma_f32_32x32x16_fp8_fp8"},
                                                    {"health", "v_mfma_f32_16x16x32_fp8_fp8"}};
  for (const auto& [kernel, instruction] : expected)
    EXPECT_NE(body(*listing_, kernel).find(instruction), std::string::npos) << kernel << " without " << instruction;
}

TEST_F(Gfx942, MatrixOperandsMoveInSixteenBytes) {
  for (const std::string kernel :
       {"gemm_fp8_m32", "gemm_fp8_m64", "gemm_fp8_m128", "moe_gate_up_m32", "moe_down_m64", "mla_decode_fp8"}) {
    const std::string code = body(*listing_, kernel);
    EXPECT_NE(code.find("global_load_dwordx4"), std::string::npos) << kernel;
    EXPECT_NE(code.find("ds_read_b128"), std::string::npos) << kernel;
    EXPECT_NE(code.find("ds_write_b128"), std::string::npos) << kernel;
  }
}

TEST_F(Gfx942, Fp8StoresClampBeforeTheyConvert) {
  for (const std::string kernel :
       {"quantize_rows", "mla_decode_fp8", "moe_gate_up_m32", "mla_cache_fp8", "rms_norm_rows"}) {
    const std::string code = body(*listing_, kernel);
    EXPECT_NE(code.find("v_cvt_pk_fp8_f32"), std::string::npos) << kernel;
    EXPECT_NE(code.find("v_med3_f32"), std::string::npos) << kernel;
  }
}

TEST_F(Gfx942, NoKernelSpillsAndLdsFits) {
  for (const CodeObject& object : gfx942_code()) {
    for (const KernelResources& kernel : read_resources(object.bytes)) {
      EXPECT_EQ(kernel.scratch_bytes, 0) << kernel.name;
      EXPECT_EQ(kernel.vgpr_spills, 0) << kernel.name;
      EXPECT_EQ(kernel.sgpr_spills, 0) << kernel.name;
      EXPECT_LE(kernel.lds_bytes, 65536) << kernel.name;
      EXPECT_LE(kernel.vgprs, 512) << kernel.name;
    }
  }
  EXPECT_EQ(listing_->find("scratch_"), std::string::npos);
}

// Every GEMM, small and tall, hides latency behind a second wave on each SIMD; so do the experts' products but the tall
// gate and up, whose gate values fill LDS, and attention but prefill, whose queries and probabilities do.
TEST_F(Gfx942, MatrixProductsHoldTwoWavesOnASimd) {
  int checked = 0;
  for (const CodeObject& object : gfx942_code())
    for (const KernelResources& kernel : read_resources(object.bytes)) {
      const bool product = kernel.name.starts_with("gemm_") || kernel.name.starts_with("moe_") ||
                           kernel.name.find("_decode_") != std::string::npos;
      if (!product || kernel.name == "moe_gate_up_m64") continue;
      EXPECT_GE(kernel.waves_per_simd(), 2) << kernel.name;
      ++checked;
    }
  EXPECT_GE(checked, 18);
}

// One more than the highest register of a kind ('v' or 'a') that a listing names, as v7, v[4:7], a[0:15].
int registers_named(const std::string& code, char kind) {
  int highest = -1;
  for (std::size_t at = 1; at + 1 < code.size(); ++at) {
    if (code[at] != kind || (code[at - 1] != ' ' && code[at - 1] != ',')) continue;
    std::size_t from = at + 1;
    if (code[from] == '[') {
      const std::size_t colon = code.find(':', from), close = code.find(']', from);
      if (colon < close) from = colon + 1;
    }
    if (code[from] >= '0' && code[from] <= '9') highest = std::max(highest, std::atoi(code.c_str() + from));
  }
  return highest + 1;
}

TEST_F(Gfx942, TheMetadataCountsTheRegistersThatTheCodeNames) {
  int checked = 0;
  for (const CodeObject& object : gfx942_code()) {
    for (const KernelResources& kernel : read_resources(object.bytes)) {
      const std::string code = body(*listing_, kernel.name);
      const int v = registers_named(code, 'v'), a = registers_named(code, 'a');
      EXPECT_LE(v + a, kernel.vgprs) << kernel.name;
      // Accumulation registers start behind the others, at a multiple of four.
      EXPECT_GE((v + 3) / 4 * 4 + a + 8, kernel.vgprs)
          << kernel.name << ": metadata counts far more than the code names";
      EXPECT_EQ(a > 0, kernel.agprs > 0) << kernel.name;
      ++checked;
    }
  }
  EXPECT_EQ(checked, static_cast<int>(kernel_infos().size()));
}

#if defined(FAULTLINE_SOURCE_DIR)
// The table of docs/kernels.md, "Registers, LDS, occupancy": as `faultline bench kernels --resources` prints it.
TEST_F(Gfx942, TheRegisterTableOfTheDocumentationIsThatOfTheCode) {
  std::ifstream file(FAULTLINE_SOURCE_DIR "/docs/kernels.md");
  ASSERT_TRUE(file.good());
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::string rows;
  for (const CodeObject& object : gfx942_code()) {
    for (const KernelResources& k : read_resources(object.bytes)) {
      std::ostringstream row;
      row << "| " << k.name << " | " << k.vgprs << " | " << k.agprs << " | " << k.sgprs << " | " << k.lds_bytes << " | "
          << k.vgpr_spills + k.sgpr_spills << " | " << k.waves_per_simd() << " |\n";
      if (text.find(row.str()) == std::string::npos) rows += row.str();
    }
  }
  EXPECT_EQ(rows, "") << "rows that docs/kernels.md should have (clang-19 of Debian 12)";
}
#endif

}  // namespace
}  // namespace faultline::kernels
