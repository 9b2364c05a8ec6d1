#include "kernels/model/safetensors.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "kernels/model/model.h"
#include "support.h"

namespace faultline::kernels::model {
namespace {

std::vector<std::uint8_t> file_of(const std::string& header, std::size_t data, std::uint64_t claimed = 0) {
  std::vector<std::uint8_t> out;
  const std::uint64_t length = claimed != 0 ? claimed : header.size();
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<std::uint8_t>(length >> (8 * i)));
  out.insert(out.end(), header.begin(), header.end());
  out.resize(out.size() + data, 0x42);
  return out;
}
std::string refusal(const std::vector<std::uint8_t>& file) {
  try {
    parse_safetensors(file);
  } catch (const BadFile& e) {
    return e.what();
  }
  return "";
}

TEST(Safetensors, ReadsWhatItWrote) {
  const std::vector<std::uint8_t> a(24, 1), b(5, 2);
  const auto file =
      write_safetensors({{"a", {"F32", {2, 3}, a}}, {"b", {"U8", {5}, b}}, {"empty", {"F32", {0, 4}, {}}}});
  const auto got = parse_safetensors(file);
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got.at("a").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_TRUE(std::equal(a.begin(), a.end(), got.at("a").bytes.begin(), got.at("a").bytes.end()));
  EXPECT_TRUE(std::equal(b.begin(), b.end(), got.at("b").bytes.begin(), got.at("b").bytes.end()));
  EXPECT_TRUE(got.at("empty").bytes.empty());
}

TEST(Safetensors, HostileFilesAreRefusedWithTheReason) {
  EXPECT_NE(refusal({1, 2, 3}).find("too few"), std::string::npos);
  EXPECT_NE(refusal(file_of("{}", 0, 3)).find("header of 3 bytes"), std::string::npos);
  EXPECT_NE(refusal(file_of("{}", 0, ~0ULL)).find("header of"), std::string::npos) << "8 + length would wrap";
  EXPECT_NE(refusal(file_of("[]", 0)).find("not a JSON object"), std::string::npos);
  EXPECT_NE(refusal(file_of("{\"a\":", 0)).find("not a JSON object"), std::string::npos);
  auto tensor = [](const std::string& body, std::size_t data = 16) {
    return refusal(file_of("{\"a\":" + body + "}", data));
  };
  EXPECT_EQ(tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})"), "");
  EXPECT_NE(tensor(R"(7)").find("lacks"), std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[4]})").find("lacks"), std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F33","shape":[4],"data_offsets":[0,16]})").find("unknown dtype"), std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[-4],"data_offsets":[0,16]})").find("non-negative"), std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[4.5],"data_offsets":[0,16]})").find("non-negative"), std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[0,17]})").find("outside"), std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[16,0]})").find("outside"), std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[18446744073709551600,16]})").find("outside"),
            std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[3],"data_offsets":[0,16]})").find("its shape needs 12"),
            std::string::npos);
  EXPECT_NE(
      tensor(R"({"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]})").find("larger than the file"),
      std::string::npos);
  EXPECT_NE(tensor(R"({"dtype":"F32","shape":[16,16,16,16,16,16,16,16,16],"data_offsets":[0,16]})").find("at most 8"),
            std::string::npos);
  EXPECT_NE(
      tensor(R"({"dtype":"F64","shape":[16,16,16,16,16,16,16,16],"data_offsets":[0,16]})").find("its shape needs"),
      std::string::npos);
  EXPECT_NE(
      refusal(
          file_of(
              R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
              8))
          .find("overlap"),
      std::string::npos);
  EXPECT_NE(
      refusal(
          file_of(
              R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
              8))
          .find("twice"),
      std::string::npos);
  EXPECT_NE(refusal(file_of(std::string(200000, '['), 0)).find("not a JSON object"), std::string::npos)
      << "deep nesting does not exhaust the stack";
}

TEST(Safetensors, MutatedFilesAreReadOrRefusedAndNeverReadOutside) {
  test::Random random(100);
  const std::vector<std::uint8_t> a(64, 1), b(32, 2);
  const auto good = write_safetensors({{"model.layers.0.weight", {"BF16", {4, 8}, a}}, {"b", {"F8_E4M3", {32}, b}}});
  int read = 0, refused = 0;
  for (int i = 0; i < test::rounds(20000, 500000); ++i) {
    auto file = good;
    for (int k = random.between(1, 4); k > 0 && !file.empty(); --k) {
      const auto at = static_cast<std::size_t>(random.below(static_cast<int>(file.size())));
      switch (random.below(5)) {
        case 0: file[at] = static_cast<std::uint8_t>(random.below(256)); break;
        case 1: file[at] = static_cast<std::uint8_t>("0123456789,:[]{}\"-."[random.below(19)]); break;
        case 2: file.erase(file.begin() + static_cast<std::ptrdiff_t>(at)); break;
        case 3:
          file.insert(file.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::uint8_t>(random.below(256)));
          break;
        default: file.resize(at); break;  // truncated
      }
    }
    // An exact heap block: AddressSanitizer sees any byte read outside it.
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[file.size()]);
    std::memcpy(exact.get(), file.data(), file.size());
    try {
      std::uint64_t sum = 0;
      for (const auto& [name, tensor] : parse_safetensors({exact.get(), file.size()})) {
        ASSERT_GE(tensor.bytes.data(), exact.get());
        ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), exact.get() + file.size());
        for (const auto byte : tensor.bytes) sum += byte;
      }
      ++read;
    } catch (const BadFile&) {
      ++refused;
    }
  }
  EXPECT_GT(read, 0) << "some mutations only change values";
  EXPECT_GT(refused, 1000);
}

// A tiny model in DeepSeek-V3's published naming, in shards, as its generator makes it.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(testing::TempDir() + "faultline_" + name + "_" + std::to_string(::getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::vector<std::uint8_t>& bytes) const {
    std::ofstream(path_ + "/" + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ + "/" + name) << text; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void write_checkpoint(const Folder& folder, const Config& config, const WeightSource& source, int shards) {
  std::vector<std::vector<std::pair<std::string, Tensor>>> files(static_cast<std::size_t>(shards));
  std::vector<std::vector<std::uint8_t>> owned;
  std::string index;
  std::size_t next = 0;
  auto put = [&](const std::string& name, const std::string& type, std::vector<std::int64_t> shape, const void* data,
                 std::size_t bytes) {
    const auto* first = static_cast<const std::uint8_t*>(data);
    owned.emplace_back(first, first + bytes);
    const std::size_t shard = next++ % static_cast<std::size_t>(shards);
    files[shard].push_back({name, {type, std::move(shape), owned.back()}});
    index += (index.empty() ? "" : ",") + ("\"" + name + "\":\"part-" + std::to_string(shard) + ".safetensors\"");
  };
  owned.reserve(10000);
  for (const TensorSpec& t : tensors_of(config)) {
    if (t.kind == TensorSpec::matrix) {
      const auto m = source.matrix(t.name, t.n, t.k);
      put(t.name + ".weight", "F8_E4M3", {t.n, t.k}, m.codes.data(), m.codes.size());
      put(t.name + ".weight_scale_inv", "F32", {(t.n + 127) / 128, (t.k + 127) / 128}, m.scales.data(),
          m.scales.size() * 4);
    } else if (t.kind == TensorSpec::bf16) {
      const auto v = source.bf16(t.name, static_cast<std::int64_t>(t.n) * t.k);
      put(t.name, "BF16", t.k == 1 ? std::vector<std::int64_t>{t.n} : std::vector<std::int64_t>{t.n, t.k}, v.data(),
          v.size() * 2);
    } else {
      const auto v = source.f32(t.name, t.n);
      put(t.name, "F32", {t.n}, v.data(), v.size() * 4);
    }
  }
  for (int s = 0; s < shards; ++s)
    folder.write("part-" + std::to_string(s) + ".safetensors", write_safetensors(files[static_cast<std::size_t>(s)]));
  folder.write("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":{" + index + "}}");
  folder.write("config.json", config_text(config));
}

TEST(Checkpoint, AShardedModelInPublishedNamesGivesTheSameLogitsAsItsSource) {
  Config config;
  config.layers = 2;
  config.shared_experts = 2;
  const auto source = seeded_weights(3);
  const Folder folder("checkpoint");
  write_checkpoint(folder, config, *source, 3);
  auto checkpoint = std::make_shared<Checkpoint>(folder.path());
  const Config read = read_config(checkpoint->config_text());
  EXPECT_EQ(config_text(read), config_text(config));
  auto device = make_cpu_device();
  Limits limits;
  limits.tokens = 16, limits.positions = 64, limits.pages = 2;
  Model from_file(*device, read, *checkpoint_weights(checkpoint), limits), from_seed(*device, config, *source, limits);
  const auto a = from_file.step({{{1, 2, 3}, 0, {0}}}), b = from_seed.step({{{1, 2, 3}, 0, {0}}});
  EXPECT_EQ(0, std::memcmp(a.data(), b.data(), a.size() * 4));
}

TEST(Checkpoint, DamagedFoldersAreRefusedByName) {
  Config config;
  config.layers = 1;
  const auto source = seeded_weights(3);
  const Folder folder("damaged");
  EXPECT_THROW(Checkpoint(folder.path() + "/nowhere"), BadFile);
  write_checkpoint(folder, config, *source, 1);
  folder.write("model.safetensors.index.json", R"({"weight_map":{"x":"../../etc/passwd"}})");
  EXPECT_THROW(Checkpoint{folder.path()}, BadFile) << "a path out of the folder";
  folder.write("model.safetensors.index.json", R"({"weight_map":{"absent":"part-0.safetensors"}})");
  EXPECT_THROW(Checkpoint{folder.path()}, BadFile) << "an index that names what is not there";
  write_checkpoint(folder, config, *source, 1);
  auto checkpoint = std::make_shared<Checkpoint>(folder.path());
  const auto weights = checkpoint_weights(checkpoint);
  EXPECT_THROW(weights->matrix("model.layers.0.self_attn.o_proj", 128, 512), BadFile) << "another shape";
  EXPECT_THROW(weights->matrix("model.layers.9.self_attn.o_proj", 256, 512), BadFile) << "no such tensor";
  EXPECT_THROW((void)read_config(R"({"hidden_size": "big"})"), std::runtime_error);
  std::string text = config_text(config);
  text.replace(text.find("\"kv_lora_rank\": 512"), 19, "\"kv_lora_rank\": 256");
  EXPECT_THROW((void)read_config(text), std::runtime_error);
}

}  // namespace
}  // namespace faultline::kernels::model
