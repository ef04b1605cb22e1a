#include "policy/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "common/check.h"
#include "testing/paths.h"

namespace moerl::policy {
namespace {

namespace fs = std::filesystem;
using Dtype = SafetensorsDtype;
const fs::path kGolden = MOERL_SOURCE_DIR "/tests/golden";

/// An empty directory of the running test.
fs::path scratch_directory() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  fs::path path =
      fs::path(testing::TempDir()) / concat("moerl_", info->test_suite_name(), "_", info->name());
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::vector<float> values_of(const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(view.shape.numel()));
  convert_to_f32(view, values.data());
  return values;
}

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(expected[i]))
      EXPECT_TRUE(std::isnan(got[i])) << i;
    else
      EXPECT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i])) << i;
  }
}

TEST(SafetensorsTest, ReadsWhatTheReferenceWrote) {
  const SafetensorsFile file(kGolden / "safetensors_types.safetensors");
  EXPECT_EQ(file.metadata().at("made by"), "numpy");
  EXPECT_EQ(file.tensor("i64").dtype, Dtype::kI64);
  EXPECT_EQ(file.tensor("i64").data.size(), 24u);
  EXPECT_EQ(file.tensor("scalar").shape, Shape());
  EXPECT_EQ(file.tensor("empty").shape, (Shape{0, 4}));
  EXPECT_EQ(file.tensor("f8.all").dtype, Dtype::kF8E4M3);
  EXPECT_EQ(file.tensor("bf16").dtype, Dtype::kBF16);
  for (const char* name : {"f32", "bf16", "f16", "f8.all", "scalar", "empty"}) {
    SCOPED_TRACE(name);
    expect_same_bits(values_of(file.tensor(name)),
                     values_of(file.tensor(std::string(name) + ".expected")));
  }
}

TEST(SafetensorsTest, RefusesAnUnknownTensorAndATypeWithoutConversion) {
  const SafetensorsFile file(kGolden / "safetensors_types.safetensors");
  EXPECT_THROW(file.tensor("weights"), IoError);
  float out[3];
  EXPECT_THROW(convert_to_f32(file.tensor("i64"), out), IoError);
}

TEST(SafetensorsTest, WritesTheBytesOfTheReferenceWriter) {
  const fs::path golden = kGolden / "safetensors_written.safetensors";
  const SafetensorsFile file(golden);
  SafetensorsWriter writer;
  for (const auto& [name, view] : file.tensors())
    writer.add(name, view.dtype, view.shape, view.data.data());
  const fs::path path = scratch_directory() / "copy.safetensors";
  writer.write(path);
  EXPECT_EQ(read_file(path), read_file(golden));
  EXPECT_FALSE(fs::exists(path.string() + ".tmp"));
}

TEST(SafetensorsTest, WriterRefusesWhatItCannotWrite) {
  SafetensorsWriter writer;
  const float value = 1;
  writer.add("a", Dtype::kF32, {1}, &value);
  EXPECT_THROW(writer.add("a", Dtype::kF32, {1}, &value), std::invalid_argument);
  EXPECT_THROW(writer.add("b", Dtype::kI64, {1}, &value), std::invalid_argument);
  EXPECT_THROW(writer.add("__metadata__", Dtype::kF32, {1}, &value), std::invalid_argument);
  EXPECT_THROW(writer.add("c", Dtype::kF32, {1}, nullptr), std::invalid_argument);
  EXPECT_THROW(writer.add("d", Dtype::kF32, {-1}, &value), std::invalid_argument);
  EXPECT_THROW(writer.add("\xFF", Dtype::kF32, {1}, &value), std::invalid_argument);
  EXPECT_THROW(writer.write_sharded(scratch_directory(), 0), std::invalid_argument);
  EXPECT_THROW(writer.write("/nonexistent/x.safetensors"), IoError);
}

/// Five fp32 tensors of 40 bytes each and one bf16 of 6.
struct SomeTensors {
  std::map<std::string, std::vector<float>> f32;
  std::vector<uint16_t> half = {0x3F80, 0xC000, 0x0001};
  SafetensorsWriter writer;

  SomeTensors() {
    for (int t = 0; t < 5; ++t) {
      std::vector<float>& values = f32[concat("t", t)];
      for (int i = 0; i < 10; ++i) values.push_back(static_cast<float>(t) + 0.1f * i);
    }
    for (const auto& [name, values] : f32) writer.add(name, Dtype::kF32, {2, 5}, values.data());
    writer.add("z", Dtype::kBF16, {3}, half.data());
  }

  void expect_in(const fs::path& directory) const {
    const CheckpointReader reader(directory);
    EXPECT_THAT(reader.names(), testing::ElementsAre("t0", "t1", "t2", "t3", "t4", "z"));
    std::vector<float> got(10);
    for (const auto& [name, values] : f32) {
      reader.read_f32(name, got.data(), {2, 5});
      EXPECT_EQ(got, values);
    }
    std::vector<float> z(3);
    reader.read_f32("z", z.data(), {3});
    EXPECT_EQ(z, (std::vector<float>{1, -2, std::bit_cast<float>(0x00010000u)}));
  }
};

TEST(CheckpointReaderTest, ReadsShardsAndSingleFilesAlike) {
  const SomeTensors tensors;
  const fs::path directory = scratch_directory();
  tensors.writer.write_sharded(directory, 80);
  EXPECT_TRUE(fs::exists(directory / "model-00003-of-00003.safetensors"));
  EXPECT_EQ(nlohmann::json::parse(read_file(directory / "model.safetensors.index.json"))
                .at("metadata")
                .at("total_size"),
            206);
  tensors.expect_in(directory);

  tensors.writer.write_sharded(directory, 1);  // each tensor has its own
  EXPECT_TRUE(fs::exists(directory / "model-00006-of-00006.safetensors"));
  EXPECT_FALSE(fs::exists(directory / "model-00003-of-00003.safetensors"));
  tensors.expect_in(directory);

  tensors.writer.write_sharded(directory, 1000);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory), {}), 1);
  tensors.expect_in(directory);
}

TEST(CheckpointReaderTest, RefusesAWrongShapeAndAMissingTensor) {
  const fs::path directory = scratch_directory();
  SomeTensors().writer.write_sharded(directory, 1000);
  const CheckpointReader reader(directory);
  std::vector<float> out(10);
  try {
    reader.read_f32("t1", out.data(), {5, 2});
    ADD_FAILURE() << "accepted";
  } catch (const IoError& error) {
    EXPECT_THAT(
        error.what(),
        testing::HasSubstr("model.safetensors: tensor 't1' has shape [2, 5], expected [5, 2]"));
  }
  EXPECT_THROW(reader.read_f32("t9", out.data(), {2, 5}), IoError);
  EXPECT_THROW(CheckpointReader(directory / "nothing"), IoError);
}

TEST(CheckpointReaderTest, RefusesAnIndexThatIsWrong) {
  const fs::path directory = scratch_directory();
  SomeTensors().writer.write_sharded(directory, 80);
  const auto refusal = [&](const std::string& index) -> std::string {
    write_file_atomic(directory / "model.safetensors.index.json", index);
    try {
      CheckpointReader reader(directory);
    } catch (const IoError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal("{"), testing::HasSubstr("index.json: not JSON"));
  EXPECT_THAT(refusal("{}"), testing::HasSubstr("weight_map is null"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": "../t"}})"), testing::HasSubstr("weight_map['t0']"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": 7}})"), testing::HasSubstr("weight_map['t0'] is 7"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": "none.safetensors"}})"),
              testing::HasSubstr("none.safetensors"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": "model-00003-of-00003.safetensors"}})"),
              testing::HasSubstr("there is no tensor 't0'"));
}

/// Writes any types, as the writer of the project makes F32 and BF16 only.
struct RawTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
void write_raw(const fs::path& path, const std::vector<RawTensor>& tensors) {
  nlohmann::json header;
  std::string data;
  for (const RawTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  write_file_atomic(path, std::string(reinterpret_cast<const char*>(&length), 8) + text + data);
}

std::string bytes_of(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

TEST(CheckpointReaderTest, AppliesBlockScalesFromAnotherShard) {
  // 129 x 130: both tails are ragged.
  const SafetensorsFile golden(kGolden / "safetensors_types.safetensors");
  const std::vector<float> expected = values_of(golden.tensor("weight.expected"));
  const fs::path directory = scratch_directory();
  write_raw(directory / "a.safetensors",
            {{"weight", "F8_E4M3", {129, 130}, bytes_of(golden.tensor("weight").data)}});
  write_raw(
      directory / "b.safetensors",
      {{"weight_scale_inv", "F32", {2, 2}, bytes_of(golden.tensor("weight_scale_inv").data)}});
  write_file_atomic(directory / "model.safetensors.index.json",
                    R"({"metadata": {}, "weight_map": {"weight": "a.safetensors",
                        "weight_scale_inv": "b.safetensors"}})");
  const CheckpointReader reader(directory);
  EXPECT_THAT(reader.names(), testing::ElementsAre("weight"));
  std::vector<float> got(expected.size());
  reader.read_f32("weight", got.data(), {129, 130});
  expect_same_bits(got, expected);
}

TEST(CheckpointReaderTest, RefusesScalesThatDoNotFit) {
  const fs::path directory = scratch_directory();
  const RawTensor weight = {"w", "F8_E4M3", {129, 2}, std::string(258, '\x38')};
  const auto refusal = [&](const std::vector<RawTensor>& tensors) -> std::string {
    write_raw(directory / "model.safetensors", tensors);
    std::vector<float> out(258);
    try {
      CheckpointReader(directory).read_f32("w", out.data(), Shape(tensors[0].shape));
    } catch (const IoError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal({weight, {"w_scale_inv", "F32", {2, 1}, std::string(8, 'x')}}), "accepted");
  EXPECT_THAT(refusal({weight}), testing::HasSubstr("there is no 'w_scale_inv'"));
  EXPECT_THAT(refusal({weight, {"w_scale_inv", "F32", {1, 2}, std::string(8, 'x')}}),
              testing::HasSubstr("'w_scale_inv' is F32 [1, 2], expected F32 [2, 1]"));
  EXPECT_THAT(refusal({weight, {"w_scale_inv", "BF16", {2, 1}, std::string(4, 'x')}}),
              testing::HasSubstr("is BF16 [2, 1], expected F32 [2, 1]"));
  EXPECT_THAT(refusal({{"w", "F8_E4M3", {258}, weight.bytes},
                       {"w_scale_inv", "F32", {3}, std::string(12, 'x')}}),
              testing::HasSubstr("expected a matrix"));
}

std::string file_bytes(const std::string& header, size_t data_size) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header +
         std::string(data_size, '\0');
}

// Without the fsync of write_file_atomic, as thousands are written.
void write_plain(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string refusal_of(const fs::path& path, const std::string& bytes) {
  write_plain(path, bytes);
  try {
    SafetensorsFile file(path);
  } catch (const IoError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SafetensorsCorruptionTest, EveryFaultIsNamed) {
  const fs::path path = scratch_directory() / "c.safetensors";
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  ASSERT_EQ(refusal_of(path, file_bytes("{" + a + "}  ", 8)), "accepted");
  const std::vector<std::tuple<std::string, size_t, std::string>> cases = {
      {"{" + a + "}", 4, "tensor 'a' ends at byte 8 of the data, but the file holds 4"},
      {"{" + a + "}", 9, "the tensors end at byte 8 of the data, but there are 9"},
      {"{" + a + "," + a + "}", 8, "'a' is in the header twice"},
      {R"({"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}})", 8,
       "'dtype' is in the header twice"},
      {"{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}})", 8,
       "tensor 'b' begins at byte 6 of the data, expected 8"},
      {"{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[10,12]}})", 12,
       "tensor 'b' begins at byte 10 of the data, expected 8"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
       "tensor 'a' has data_offsets [0,8], expected 12 bytes for F32 [3]"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "data_offsets [8,0]"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "data_offsets [0]"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", 8, "data_offsets [-8,0]"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "has shape [-2]"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "has shape [2.0]"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8,
       "expected fewer than 2^63 elements"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}})", 8,
       "expected whole bytes below 2^60"},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2, "expected whole bytes"},
      {R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8, "has dtype \"F31\""},
      {R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8, "has dtype null"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", 8,
       "has the field 'x': 1"},
      {R"({"a":7})", 0, "tensor 'a' is 7, expected an object"},
      {R"({"__metadata__":{"k":1}})", 0, "__metadata__ 'k' is 1"},
      {R"({"__metadata__":7})", 0, "__metadata__ is 7"},
      {"[]", 0, "does not begin with '{'"},
      {"{\"a\":", 0, "the header is not JSON"},
      {"{\"\xFF\":1}", 0, "the header is not JSON"},
      {"", 0, "does not begin with '{'"},
  };
  for (const auto& [header, data_size, text] : cases)
    EXPECT_THAT(refusal_of(path, file_bytes(header, data_size)),
                testing::AllOf(testing::HasSubstr("c.safetensors: "), testing::HasSubstr(text)));
  EXPECT_THAT(refusal_of(path, "1234567"), testing::HasSubstr("has 7 bytes"));
  EXPECT_THAT(refusal_of(path, ""), testing::HasSubstr("has 0 bytes"));
  EXPECT_THAT(refusal_of(path, std::string(8, '\xFF') + "{}"),
              testing::HasSubstr("at most 100000000"));
  EXPECT_THAT(refusal_of(path, std::string("\x40\0\0\0\0\0\0\0{}", 10)),
              testing::HasSubstr("the file is truncated"));
}

TEST(SafetensorsCorruptionTest, EveryTruncationIsRefused) {
  const std::string whole = read_file(kGolden / "safetensors_written.safetensors");
  const fs::path path = scratch_directory() / "t.safetensors";
  for (size_t n = 0; n < whole.size(); ++n)
    ASSERT_NE(refusal_of(path, whole.substr(0, n)), "accepted") << n;
}

TEST(SafetensorsCorruptionTest, FlippedHeaderBytesNeverCrash) {
  const std::string whole = read_file(kGolden / "safetensors_written.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  const fs::path path = scratch_directory() / "f.safetensors";
  std::mt19937 random(19);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = whole;
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips)
      bytes[random() % (8 + header)] = static_cast<char>(random());
    write_plain(path, bytes);
    try {
      const SafetensorsFile file(path);
      // What is accepted must be readable to its last byte.
      for (const auto& [name, view] : file.tensors())
        if (view.dtype == Dtype::kF32 || view.dtype == Dtype::kBF16) values_of(view);
    } catch (const IoError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("f.safetensors: "));
      ++refused;
    }
  }
  EXPECT_GT(refused, 750);
}

}  // namespace
}  // namespace moerl::policy
