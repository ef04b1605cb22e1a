#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "testing/paths.h"

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = MOERL_SOURCE_DIR;

// What each folder may include; every folder may include itself.
const std::map<std::string, std::set<std::string>> kAllowed = {
    {"common", {}},
    {"kernels", {"common"}},
    {"policy", {"common", "kernels"}},
    {"rollout", {"common", "kernels", "policy"}},
    {"reward", {"common"}},
    {"experiments", {"common", "kernels", "policy", "rollout", "reward"}}};

std::vector<fs::path> sources_under(const std::string& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(kRoot / folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".h" || extension == ".cc" || extension == ".cu" || extension == ".cuh")
      files.push_back(entry.path());
  }
  return files;
}

std::vector<std::string> quoted_includes(const fs::path& file) {
  const std::string directive = "#include \"";
  std::vector<std::string> includes;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    line.erase(0, line.find_first_not_of(" \t"));
    if (line.starts_with(directive))
      includes.push_back(
          line.substr(directive.size(), line.find('"', directive.size()) - directive.size()));
  }
  return includes;
}

std::string first_part(const std::string& path) { return path.substr(0, path.find('/')); }

TEST(LayeringTest, FoldersIncludeOnlyWhatStandsBelowThem) {
  for (const auto& [folder, allowed] : kAllowed) {
    for (const fs::path& file : sources_under(folder)) {
      for (const std::string& include : quoted_includes(file)) {
        const std::string target = first_part(include);
        if (!kAllowed.contains(target)) continue;  // generated code; checked below
        EXPECT_TRUE(target == folder || allowed.contains(target))
            << file << " includes " << include;
        EXPECT_TRUE(fs::exists(kRoot / include)) << file << " includes " << include;
      }
    }
  }
}

TEST(LayeringTest, GeneratedCodeIsKnownOnlyToServicesClientsAndConverters) {
  const auto speaks_protobuf = [](const fs::path& file) {
    const std::string stem = file.stem().string();
    return stem.ends_with("_service") || stem.ends_with("_client") || stem.ends_with("_convert");
  };
  for (const auto& [folder, unused] : kAllowed)
    for (const fs::path& file : sources_under(folder))
      for (const std::string& include : quoted_includes(file))
        if (include.ends_with(".pb.h")) {
          EXPECT_TRUE(speaks_protobuf(file)) << file << " includes " << include;
        }
}

TEST(LayeringTest, CommonKnowsGrpcOnlyInItsRpcPart) {
  for (const fs::path& file : sources_under("common"))
    for (const std::string& include : quoted_includes(file))
      if (include.starts_with("common/rpc/")) {
        EXPECT_NE(file.string().find("/common/rpc/"), std::string::npos) << file;
      }
}

TEST(LayeringTest, ReferencesAreIncludedByTestsAndReferencesOnly) {
  for (const auto& [folder, unused] : kAllowed)
    for (const fs::path& file : sources_under(folder))
      for (const std::string& include : quoted_includes(file))
        if (include.ends_with("_ref.h")) {
          EXPECT_TRUE(file.string().ends_with("_ref.h")) << file << " includes " << include;
        }
}

TEST(LayeringTest, EveryHeaderIsGuarded) {
  for (const auto& [folder, unused] : kAllowed) {
    for (const fs::path& file : sources_under(folder)) {
      if (file.extension() != ".h" && file.extension() != ".cuh") continue;
      std::ifstream in(file);
      std::string first;
      std::getline(in, first);
      EXPECT_EQ(first, "#pragma once") << file;
    }
  }
}

}  // namespace
