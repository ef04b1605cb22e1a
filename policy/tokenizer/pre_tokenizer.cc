#include "policy/tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "common/check.h"

namespace moerl::policy {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

struct Range {
  size_t begin, end;
  bool is_delimiter;
};

/// Calls visit(begin, end, is_match) for the matches and the gaps between them, in order.
template <typename Visit>
void for_each_range(const Regex& regex, std::string_view text, const Visit& visit) {
  size_t covered = 0, search_from = 0;
  size_t last_end = std::string_view::npos;
  Regex::Match match{};
  while (search_from <= text.size() && regex.find(text, search_from, match)) {
    // An empty match right behind the last one would be found for ever.
    if (match.begin == match.end && match.end == last_end) {
      do ++search_from;
      while (search_from < text.size() && (text[search_from] & 0xC0) == 0x80);
      continue;
    }
    search_from = last_end = match.end;
    if (covered != match.begin) visit(covered, match.begin, false);
    visit(match.begin, match.end, true);
    covered = match.end;
  }
  if (covered != text.size()) visit(covered, text.size(), false);
}

/// Joins each delimiter to the range before it. A delimiter after a delimiter stays alone.
std::vector<Range> merge_with_previous(const std::vector<Range>& ranges) {
  std::vector<Range> merged;
  bool after_delimiter = false;
  for (const Range& range : ranges) {
    if (range.is_delimiter && !after_delimiter && !merged.empty())
      merged.back().end = range.end;
    else
      merged.push_back(range);
    after_delimiter = range.is_delimiter;
  }
  return merged;
}

std::vector<Range> merge_with_next(const std::vector<Range>& ranges) {
  std::vector<Range> merged;
  bool before_delimiter = false;
  for (auto range = ranges.rbegin(); range != ranges.rend(); ++range) {
    if (range->is_delimiter && !before_delimiter && !merged.empty())
      merged.back().begin = range->begin;
    else
      merged.push_back(*range);
    before_delimiter = range->is_delimiter;
  }
  std::reverse(merged.begin(), merged.end());
  return merged;
}

std::vector<Range> merge_contiguous(const std::vector<Range>& ranges) {
  std::vector<Range> merged;
  bool last_is_delimiter = false;
  for (const Range& range : ranges) {
    if (range.is_delimiter == last_is_delimiter && !merged.empty())
      merged.back().end = range.end;
    else
      merged.push_back(range);
    last_is_delimiter = range.is_delimiter;
  }
  return merged;
}

std::vector<Range> resolve(std::vector<Range> ranges, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return ranges;
    case SplitBehavior::kRemoved:
      std::erase_if(ranges, [](const Range& range) { return range.is_delimiter; });
      return ranges;
    case SplitBehavior::kMergedWithPrevious:
      return merge_with_previous(ranges);
    case SplitBehavior::kMergedWithNext:
      return merge_with_next(ranges);
    case SplitBehavior::kContiguous:
      return merge_contiguous(ranges);
  }
  throw std::logic_error("internal error: unknown split behavior");
}

}  // namespace

PreTokenizer::PreTokenizer(const PreTokenizerConfig& config)
    : add_prefix_space_(config.add_prefix_space) {
  for (const SplitConfig& split : config.splits)
    splits_.push_back({Regex(split.pattern, split.syntax), split.behavior, split.invert});
  if (config.use_regex)
    byte_level_split_.push_back(
        {Regex(kGpt2Pattern, Regex::Syntax::kOniguruma), SplitBehavior::kIsolated, false});
}

void PreTokenizer::split(std::string_view text, const Sink& sink) const {
  if (!text.empty()) apply(0, text, sink);
}

void PreTokenizer::apply(size_t index, std::string_view text, const Sink& sink) const {
  if (index == splits_.size()) return byte_level(text, sink);
  const Split& split = splits_[index];
  if (split.behavior == SplitBehavior::kIsolated) {
    for_each_range(split.regex, text, [&](size_t begin, size_t end, bool) {
      if (begin < end) apply(index + 1, text.substr(begin, end - begin), sink);
    });
    return;
  }
  std::vector<Range> ranges;
  for_each_range(split.regex, text, [&](size_t begin, size_t end, bool is_match) {
    ranges.push_back({begin, end, is_match != split.invert});
  });
  for (const Range& range : resolve(std::move(ranges), split.behavior))
    if (range.begin < range.end)
      apply(index + 1, text.substr(range.begin, range.end - range.begin), sink);
}

void PreTokenizer::byte_level(std::string_view text, const Sink& sink) const {
  std::string prefixed;
  if (add_prefix_space_ && !text.starts_with(' ')) {
    prefixed = concat(' ', text);
    text = prefixed;
  }
  if (byte_level_split_.empty()) return sink(text);
  for_each_range(byte_level_split_[0].regex, text, [&](size_t begin, size_t end, bool) {
    if (begin < end) sink(text.substr(begin, end - begin));
  });
}

}  // namespace moerl::policy
