// Measured component times in one shape per kind of operation, whatever tool wrote them. Units: times in microseconds
// as the tools print them (double: they are data, not simulated time), sizes in bytes or counts.
#pragma once

#include <string>
#include <vector>

#include "core/config/diagnostics.h"

namespace faultline::calibration {

/// Where a row came from, and what it ran on. `hardware` is a tag: MI300X, MI325X, MI308X, MI355X, H800, …;
/// "gfx942-304" where the source does not say which of MI300X and MI325X it was.
struct Origin {
  config::Mark mark;
  std::string hardware;
  std::string date;      // of the software, yyyy-mm-dd; empty where unknown
  std::string unusable;  // why the row must not be fitted or scored; empty for a good row
};

/// C[m, n] = A[m, k] B[k, n], `batch` times in one kernel.
struct GemmSample {
  double m = 0, n = 0, k = 0, batch = 1;
  std::string precision;  // fp8_block (1x128 by 128x128 scales), fp8_row, bf16
  double us = 0;
  Origin origin;
};

/// Fused MoE on one GPU: gate and up, activation, down; all `topk` experts of each token on this GPU.
struct MoeSample {
  double tokens = 0, hidden = 0, inter = 0, experts = 0, topk = 0;
  std::string precision;   // fp8_block, fp8_row, bf16, fp8_tensor, int8, fp4, int4
  bool one_stage = false;  // one kernel for both matrices
  double us = 0;
  Origin origin;
};

/// EP dispatch or combine; `tokens` per rank; `hidden` values of `dtype` a token.
struct ExchangeSample {
  std::string kernel;  // IntraNode, IntraNodeLL, InterNodeV1, InterNodeV1LL, AsyncLL
  std::string phase;   // dispatch, combine
  std::string dtype;   // bf16, fp8, fp4
  std::string quant;   // none, fp8_direct_cast
  double ep = 0, tokens = 0, hidden = 0, topk = 0;
  double us = 0;
  bool stale = false;  // the source marks the row as stale
  std::string series;  // rows of one measurement campaign (a file or a commit)
  Origin origin;
};

/// `batch` one-sided transfers of `bytes` each, posted together; the time of all.
struct TransferSample {
  std::string nic, operation;  // CX7, Thor2; read, write, send
  std::string series;
  double bytes = 0, batch = 1;
  double us = 0;
  Origin origin;
};

/// Decode attention of one layer on one GPU. MLA: `heads` query heads over one latent of 576 values a token.
struct AttentionSample {
  std::string kernel;  // mla_decode_asm, mla_decode_hk
  double batch = 0, context = 0, heads = 0;
  double us = 0;
  Origin origin;
};

struct CollectiveSample {
  std::string operation;  // all_reduce, all_gather, reduce_scatter, all_to_all, …
  double ranks = 0, bytes = 0, us = 0;
  Origin origin;
};

/// One run of a serving benchmark, as measured by its client.
struct ServingSample {
  double requests = 0, duration_s = 0, input_tokens = 0, output_tokens = 0;
  double request_rate = 0, concurrency = 0;  // 0: not said
  double ttft_ms_mean = 0, ttft_ms_p99 = 0, tpot_ms_mean = 0, tpot_ms_p99 = 0, itl_ms_mean = 0;
  std::string model;
  Origin origin;
};

struct Dataset {
  std::vector<GemmSample> gemm;
  std::vector<MoeSample> moe;
  std::vector<ExchangeSample> exchange;
  std::vector<TransferSample> transfer;
  std::vector<AttentionSample> attention;
  std::vector<CollectiveSample> collective;
  std::vector<ServingSample> serving;
  std::size_t size() const {
    return gemm.size() + moe.size() + exchange.size() + transfer.size() + attention.size() + collective.size() +
           serving.size();
  }
};

}  // namespace faultline::calibration
