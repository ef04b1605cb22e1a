#pragma once
#include "moerl/v1/reward.pb.h"
#include "reward/sample.h"
#include "reward/verdict.h"

namespace moerl::reward {

/// Metadata key of a ScoreStream that ends because of one item: that item's id, in decimal.
inline constexpr char kRefusedItemKey[] = "moerl-item-id";

/// Texts are made valid UTF-8 (see to_valid_utf8), because the wire carries nothing else.
void to_proto(const ScoreItem& item, v1::ScoreItem* out);
void to_proto(const Verdict& verdict, v1::Verdict* out);

ScoreItem from_proto(const v1::ScoreItem& item);
/// @throws std::invalid_argument if the status is not one that this build knows, or a number is not
///   finite.
Verdict from_proto(const v1::Verdict& verdict);

}  // namespace moerl::reward
