#include "common/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "common/error.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "moerl-file-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(FileTest, WritesAndReadsBytes) {
  const std::string bytes("a\0b\n\xff", 5);
  write_file_atomic(folder_ / "f", bytes);
  EXPECT_EQ(read_file(folder_ / "f"), bytes);
  write_file_atomic(folder_ / "f", "");
  EXPECT_EQ(read_file(folder_ / "f"), "");
  EXPECT_FALSE(fs::exists(folder_ / "f.tmp"));
}

TEST_F(FileTest, FailedWriteKeepsTheOldFile) {
  write_file_atomic(folder_ / "f", "old");
  fs::create_directory(folder_ / "f.tmp");  // the place aside is taken
  EXPECT_THROW(write_file_atomic(folder_ / "f", "new"), IoError);
  EXPECT_EQ(read_file(folder_ / "f"), "old");
}

TEST_F(FileTest, ErrorsNameTheFileAndTheReason) {
  try {
    read_file(folder_ / "absent");
    FAIL() << "expected an IoError";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("absent"), testing::HasSubstr("No such file")));
  }
  EXPECT_THROW(MappedFile(folder_ / "absent"), IoError);
  EXPECT_THROW(MappedFile{folder_}, IoError);
}

TEST_F(FileTest, MapsFilesOfAnySize) {
  write_file_atomic(folder_ / "empty", "");
  EXPECT_EQ(MappedFile(folder_ / "empty").bytes(), "");
  write_file_atomic(folder_ / "full", "hello");
  EXPECT_EQ(MappedFile(folder_ / "full").bytes(), "hello");
}

TEST_F(FileTest, DirectoryIsReplacedAsAWhole) {
  for (const char* content : {"one", "two"}) {
    fs::create_directories(folder_ / "aside" / "deep");
    write_file_atomic(folder_ / "aside" / "deep" / "f", content);
    rename_directory_atomic(folder_ / "aside", folder_ / "target");
    EXPECT_EQ(read_file(folder_ / "target" / "deep" / "f"), content);
    EXPECT_FALSE(fs::exists(folder_ / "aside"));
    EXPECT_FALSE(fs::exists(folder_ / "target.old"));
  }
}

}  // namespace
}  // namespace moerl
