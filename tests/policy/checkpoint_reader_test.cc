#include "policy/checkpoint_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "policy/safetensors_writer.h"
#include "testing/paths.h"
#include "tests/policy/checkpoint_files.h"

namespace moerl::policy {
namespace {

namespace fs = std::filesystem;
using Dtype = SafetensorsDtype;
using ::testing::AllOf;
using ::testing::HasSubstr;
const fs::path kGolden = MOERL_SOURCE_DIR "/tests/golden";

std::vector<float> read(const CheckpointReader& reader, const std::string& name,
                        const Shape& shape) {
  ExecContext ctx(2);
  Tensor out = Tensor::empty(shape, DType::kF32);
  reader.read(ctx, name, out);
  return {out.data<float>(), out.data<float>() + out.numel()};
}

/// What the reader says about a directory.
std::string refusal(const fs::path& directory) {
  try {
    CheckpointReader reader(directory);
  } catch (const IoError& error) {
    return error.what();
  }
  return "accepted";
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
    EXPECT_THAT(reader.names(), ::testing::ElementsAre("t0", "t1", "t2", "t3", "t4", "z"));
    for (const auto& [name, values] : f32) EXPECT_EQ(read(reader, name, {2, 5}), values);
    EXPECT_EQ(read(reader, "z", {3}),
              (std::vector<float>{1, -2, std::bit_cast<float>(0x00010000u)}));
  }
};

TEST(CheckpointReaderTest, ReadsShardsAndSingleFilesAlike) {
  const SomeTensors tensors;
  const fs::path directory = scratch_directory();
  tensors.writer.write_sharded(directory, 80);
  EXPECT_TRUE(fs::exists(directory / "model-00003-of-00003.safetensors"));
  EXPECT_EQ(parse_json(read_file(directory / "model.safetensors.index.json"))
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
  try {
    read(reader, "t1", {5, 2});
    ADD_FAILURE() << "accepted";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("model.safetensors: tensor 't1' is [2, 5], expected [5, 2]"));
  }
  EXPECT_THROW(read(reader, "t9", {2, 5}), IoError);
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
  EXPECT_THAT(refusal("{"), HasSubstr("index.json: not JSON"));
  EXPECT_THAT(refusal("{}"), HasSubstr("weight_map is null"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": "../t"}})"), HasSubstr("weight_map['t0']"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": 7}})"), HasSubstr("weight_map['t0'] is 7"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": "none.safetensors"}})"),
              HasSubstr("none.safetensors"));
  EXPECT_THAT(refusal(R"({"weight_map": {"t0": "model-00003-of-00003.safetensors"}})"),
              HasSubstr("there is no tensor 't0'"));
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
  EXPECT_THAT(reader.names(), ::testing::ElementsAre("weight"));
  expect_same_bits(read(reader, "weight", {129, 130}), expected);
}

TEST(CheckpointReaderTest, RefusesScalesThatDoNotFit) {
  const fs::path directory = scratch_directory();
  const RawTensor weight = {"w", "F8_E4M3", {129, 2}, std::string(258, '\x38')};
  const auto refusal = [&](const std::vector<RawTensor>& tensors) -> std::string {
    write_raw(directory / "model.safetensors", tensors);
    try {
      read(CheckpointReader(directory), "w", Shape(tensors[0].shape));
    } catch (const IoError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal({weight, {"w_scale_inv", "F32", {2, 1}, std::string(8, 'x')}}), "accepted");
  EXPECT_THAT(refusal({weight}), HasSubstr("there is no 'w_scale_inv'"));
  EXPECT_THAT(refusal({weight, {"w_scale_inv", "F32", {1, 2}, std::string(8, 'x')}}),
              HasSubstr("'w_scale_inv' is F32 [1, 2], expected F32 [2, 1]"));
  EXPECT_THAT(refusal({weight, {"w_scale_inv", "BF16", {2, 1}, std::string(4, 'x')}}),
              HasSubstr("is BF16 [2, 1], expected F32 [2, 1]"));
  EXPECT_THAT(refusal({{"w", "F8_E4M3", {258}, weight.bytes},
                       {"w_scale_inv", "F32", {3}, std::string(12, 'x')}}),
              HasSubstr("expected a matrix"));
}

TEST(CheckpointReaderTest, DequantisesAsPyTorchDoes) {
  const SafetensorsFile golden(kGolden / "fp8.safetensors");
  const fs::path directory = scratch_directory();
  for (const std::string prefix : {"", "power."}) {
    SCOPED_TRACE(prefix);
    write_raw(directory / "model.safetensors",
              {{"w", "F8_E4M3", {130, 136}, bytes_of(golden.tensor(prefix + "codes").data)},
               {"w_scale_inv", "F32", {2, 2}, bytes_of(golden.tensor(prefix + "scale").data)}});
    expect_same_bits(read(CheckpointReader(directory), "w", {130, 136}),
                     values_of(golden.tensor(prefix + "dequantised")));
  }
}

TEST(CheckpointReaderTest, ListsEveryProblemOfTheShardsAtOnce) {
  const fs::path directory = scratch_directory();
  const std::string four(16, 'x');
  write_raw(directory / "a.safetensors",
            {{"one", "F32", {4}, four}, {"twice", "F32", {4}, four}, {"stray", "F32", {4}, four}});
  write_raw(directory / "b.safetensors", {{"twice", "F32", {4}, four}});
  write_raw(directory / "c.safetensors", {{"cut", "F32", {4}, four}});
  fs::resize_file(directory / "c.safetensors", fs::file_size(directory / "c.safetensors") - 1);
  write_file_atomic(directory / "model.safetensors.index.json", R"({"weight_map": {
      "one": "a.safetensors", "twice": "b.safetensors", "cut": "c.safetensors",
      "gone": "d.safetensors", "lost": "b.safetensors"}})");
  EXPECT_THAT(refusal(directory),
              AllOf(HasSubstr("a.safetensors: tensor 'stray' is not in the index"),
                    HasSubstr("a.safetensors: tensor 'twice' is here and in b.safetensors"),
                    HasSubstr("b.safetensors: there is no tensor 'lost'"),
                    HasSubstr("c.safetensors: tensor 'cut' ends at byte 16 of the data, but the "
                              "file holds 15; the file is truncated"),
                    HasSubstr("d.safetensors: No such file")));
}

TEST(CheckpointReaderTest, RefusesAnIndexThatLeavesItsFolder) {
  const fs::path directory = scratch_directory();
  write_raw(directory.parent_path() / "secret.safetensors", {{"w", "F32", {1}, "1234"}});
  write_file_atomic(directory / "model.safetensors.index.json", R"({"weight_map": {
      "a": "../secret.safetensors", "b": "/etc/passwd", "c": "", "d": "..", "e": "x\u0000y"}})");
  EXPECT_THAT(refusal(directory),
              AllOf(HasSubstr("weight_map['a'] is \"../secret.safetensors\""),
                    HasSubstr("weight_map['b']"), HasSubstr("weight_map['c']"),
                    HasSubstr("weight_map['d']"), HasSubstr("weight_map['e']")));
}

TEST(CheckpointReaderTest, ReadsOddNamesAndEmptyTensors) {
  const fs::path directory = scratch_directory();
  const std::string odd = "näme \"quoted\" \\ /../\n\t\u0001 権";
  write_raw(directory / "model.safetensors", {{odd, "F16", {2}, std::string("\x01\x00\xff\x83", 4)},
                                              {"", "BF16", {1}, std::string("\x01\x00", 2)},
                                              {"none", "F32", {0, 7}, ""},
                                              {"no blocks", "F8_E4M3", {0, 7}, ""},
                                              {"no blocks_scale_inv", "F32", {0, 1}, ""}});
  const CheckpointReader reader(directory);
  // The smallest and the largest subnormals of F16; the smallest of BF16, as its bits.
  EXPECT_EQ(read(reader, odd, {2}), (std::vector<float>{0x1p-24f, -1023 * 0x1p-24f}));
  EXPECT_EQ(std::bit_cast<uint32_t>(read(reader, "", {1})[0]), 0x00010000u);
  EXPECT_TRUE(read(reader, "none", {0, 7}).empty());
  EXPECT_TRUE(read(reader, "no blocks", {0, 7}).empty());
}

TEST(CheckpointReaderTest, RefusesATypeWithoutConversion) {
  const fs::path directory = scratch_directory();
  write_raw(directory / "model.safetensors", {{"w", "I32", {1}, "1234"}});
  const CheckpointReader reader(directory);
  EXPECT_THAT(reader.problem("w", {1}),
              HasSubstr("tensor 'w' is I32, expected F32, BF16, F16 or F8_E4M3"));
  EXPECT_THROW(read(reader, "w", {1}), IoError);
}

/// Pages of files that are in this process's memory.
int64_t resident_file_kilobytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("RssFile:")) return std::stoll(line.substr(8));
  return -1;
}

TEST(CheckpointReaderTest, AFileThatWasReadTakesNoMemory) {
  const fs::path directory = scratch_directory();
  const std::vector<float> values(1 << 22, 1.5f);  // 16 MiB a tensor
  SafetensorsWriter writer;
  for (int i = 0; i < 3; ++i) writer.add(concat("t", i), Dtype::kF32, {1 << 22}, values.data());
  writer.write_sharded(directory, int64_t{1} << 30);
  const CheckpointReader reader(directory);
  const int64_t before = resident_file_kilobytes();
  for (const std::string& name : reader.names()) EXPECT_EQ(read(reader, name, {1 << 22}), values);
  EXPECT_LT(resident_file_kilobytes() - before, 4096);
}

TEST(CheckpointReaderTest, ABigEndianFileIsRefused) {
  const fs::path directory = scratch_directory();
  write_raw(directory / "model.safetensors", {{"w", "F32", {1}, "1234"}});
  std::string bytes = read_file(directory / "model.safetensors");
  std::reverse(bytes.begin(), bytes.begin() + 8);
  write_file_atomic(directory / "model.safetensors", bytes);
  EXPECT_THAT(refusal(directory), HasSubstr("expected at most 100000000"));
}

}  // namespace
}  // namespace moerl::policy
