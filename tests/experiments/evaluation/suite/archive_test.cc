#include "experiments/evaluation/suite/archive.h"

#include <gtest/gtest.h>

#include <string>

#include "common/error.h"

namespace moerl::eval {
namespace {

/// Hexadecimal digits as bytes.
std::string bytes(std::string_view hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return out;
}

// Made by Python's gzip and zipfile modules.
const std::string kGzip = bytes(
    "1f8b0800000000000203edcbb90dc0200004b03e5364843c908d289050f62f11ba3170e5caa3ffedbc8eb1b8c3"
    "13de50420d5f1004411004411004411004411004411004411084bdc2047e282ef9581b0000");
const std::string kZip = bytes(
    "504b03041400000000000000210000000000000000000000000005000000646174612f504b0304140000000800"
    "00002100c8fd1c1308000000f40100000a000000646174612f622e7478744b4a1a05230d0000504b0304140000"
    "000000000021000bf9435606000000060000000a000000646174612f612e74787473746f726564504b01021403"
    "14000000000000002100000000000000000000000000050000000000000000000000800100000000646174612f"
    "504b0102140314000000080000002100c8fd1c1308000000f40100000a00000000000000000000008001230000"
    "00646174612f622e747874504b01021403140000000000000021000bf9435606000000060000000a0000000000"
    "000000000000800153000000646174612f612e747874504b05060000000003000300a3000000810000000000");

TEST(ArchiveTest, GzipFilesAreUnpacked) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "line " + std::to_string(i % 7) + "\n";
  EXPECT_EQ(gunzip(kGzip, "x.gz"), text);
  EXPECT_EQ(gunzip(kGzip + kGzip, "x.gz"), text + text);
  EXPECT_THROW(gunzip(kGzip.substr(0, kGzip.size() / 2), "x.gz"), IoError);
  std::string damaged = kGzip;
  damaged[damaged.size() - 6] ^= 1;
  EXPECT_THROW(gunzip(damaged, "x.gz"), IoError);
  EXPECT_THROW(gunzip("not gzip", "x.gz"), IoError);
}

TEST(ArchiveTest, ZipMembersAreUnpackedInTheirOrder) {
  const auto members = read_zip(kZip, "x.zip");
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].name, "data/b.txt");
  EXPECT_EQ(members[0].content, std::string(500, 'b'));
  EXPECT_EQ(members[1].name, "data/a.txt");
  EXPECT_EQ(members[1].content, "stored");
}

TEST(ArchiveTest, NoDamageGoesUnseen) {
  EXPECT_THROW(read_zip("PK", "x.zip"), IoError);
  for (size_t size = 0; size < kZip.size(); ++size)
    EXPECT_THROW(read_zip(kZip.substr(0, size), "x.zip"), IoError) << size;
  std::string damaged = kZip;
  damaged[damaged.find("stored")] = 'S';
  EXPECT_THROW(read_zip(damaged, "x.zip"), IoError);
}

}  // namespace
}  // namespace moerl::eval
