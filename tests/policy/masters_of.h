#pragma once
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>
#include <string>

#include "common/error.h"
#include "policy/transformer.h"
#include "tests/testing/copy_elements.h"

namespace moerl::testing {

/// The masters of another model. Fails at one parameter, if `lost` ends a name; notices what is
/// read incompletely or finished twice.
class MastersOf : public WeightSource {
 public:
  explicit MastersOf(const Transformer& model, std::string lost = {}) : lost_(std::move(lost)) {
    for (const Parameter* p : model.parameters()) values_[p->name] = p->value.to(Device::kCpu);
  }
  void read(const Parameter& parameter, int64_t begin, int64_t end, DType dtype,
            void* out) override {
    if (!lost_.empty() && parameter.name.ends_with(lost_)) throw IoError("the disk is gone");
    const float* values = values_.at(parameter.name).data<float>();
    copy_elements(values + begin, end - begin, dtype, out);
    const std::lock_guard lock(mutex_);
    elements_[parameter.name] += end - begin;
  }
  void finished(const Parameter& parameter) override {
    EXPECT_TRUE(finished_.insert(parameter.name).second) << parameter.name << " is finished twice";
    const int64_t read = elements_[parameter.name], all = parameter.value.numel();
    // A tied embedding is read again for the head.
    const bool is_embedding = parameter.name == "model.embed_tokens.weight";
    EXPECT_TRUE(read == all || (is_embedding && read == 2 * all)) << parameter.name << ": " << read;
  }
  size_t num_finished() const { return finished_.size(); }

 private:
  std::string lost_;
  std::map<std::string, Tensor> values_;
  std::mutex mutex_;
  std::map<std::string, int64_t> elements_;  // guarded by mutex_
  std::set<std::string> finished_;
};

}  // namespace moerl::testing
