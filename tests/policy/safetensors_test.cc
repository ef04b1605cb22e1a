#include "policy/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "common/check.h"
#include "common/json.h"
#include "policy/safetensors_writer.h"
#include "testing/paths.h"
#include "tests/policy/checkpoint_files.h"

namespace moerl::policy {
namespace {

namespace fs = std::filesystem;
using Dtype = SafetensorsDtype;
const fs::path kGolden = MOERL_SOURCE_DIR "/tests/golden";

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
      {"{" + a + "," + a + "}", 8, "header: the key 'a' is there twice"},
      {R"({"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}})", 8,
       "header: the key 'dtype' is there twice"},
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
      {"{\"a\":", 0, "header: not JSON"},
      {"{\"\xFF\":1}", 0, "header: not JSON"},
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
