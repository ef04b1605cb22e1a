#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reward/math/limits.h"
#include "reward/math/rational.h"

namespace moerl::reward::math {

/// What a node of an expression is. Scalars can be evaluated to a number; structures are compared
/// part by part.
enum class Kind : uint8_t {
  // Scalars.
  kNumber,  ///< value
  kSymbol,  ///< text: "x", "x_1", "alpha"
  kPi,
  kE,
  kImaginary,
  kInfinity,
  kSum,        ///< kids
  kProduct,    ///< kids
  kPower,      ///< base, exponent
  kRoot,       ///< radicand, index: the real root where there is one
  kFunction,   ///< function; kids are its arguments
  kCall,       ///< text applied to kids: a function that is not known, such as f(2)
  kPlusMinus,  ///< a +- b, or a -+ b with is_negated: two values
  kRatio,      ///< kids: a : b : c
  kQuantity,   ///< one kid with a unit in text; "%" and "deg" are units
  kBased,      ///< value: the base; text: the digits
  kOpaque,     ///< text: what is understood only letter by letter, such as an integral
  // Structures.
  kBrackets,  ///< (a,b) [a,b] (a,b] ...: text holds the two brackets
  kSet,       ///< kids; {} is the empty set
  kList,      ///< kids without brackets: several answers
  kMatrix,    ///< kids row by row; num_columns
  kRelation,  ///< kids joined by relations
  kUnion,
  kIntersection,
  kDifference,
  kNumberSet,   ///< text: "R", "Z", ...
  kSetBuilder,  ///< element, conditions...
  kChoice,      ///< text: the letter; kids: the text of the choice, if there is one
  kText,        ///< text: folded words
};

enum class Function : uint8_t {
  kSin,
  kCos,
  kTan,
  kCot,
  kSec,
  kCsc,
  kArcsin,
  kArccos,
  kArctan,
  kArccot,
  kArcsec,
  kArccsc,
  kSinh,
  kCosh,
  kTanh,
  kCoth,
  kSech,
  kCsch,
  kArcsinh,
  kArccosh,
  kArctanh,
  kLog,  ///< argument, base (base e has the argument alone)
  kExp,
  kAbs,
  kFloor,
  kCeil,
  kFactorial,
  kDoubleFactorial,
  kBinomial,
  kGcd,
  kLcm,
  kMax,
  kMin,
  kMod,
  kSign,
  kRe,
  kIm,
  kArg,
  kConjugate,
  kDeterminant,
  kSumOver,  ///< term, symbol, first, last
  kProductOver,
};

enum class RelationOp : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kApproximate,
  kIn,
  kNotIn,
  kCongruent,
  kOther
};

using NodeId = uint32_t;

struct Node {
  Kind kind = Kind::kNumber;
  Function function = Function::kSin;
  /// kNumber: digits after the decimal point if it was written as a decimal, else -1.
  int16_t decimals = -1;
  bool is_negated = false;
  uint16_t depth = 1;
  uint16_t num_columns = 0;
  Rational value;
  std::string text;
  std::vector<NodeId> kids;
  /// kRelation: between kid i and kid i + 1.
  std::vector<RelationOp> relations;
};

/// The nodes of two answers that are compared; a node's kids come before it. Lives on one thread.
class Tree {
 public:
  Tree();

  /// What is added from here on belongs to another answer: kMaxNodes counts from here.
  void begin_answer() { begin_ = nodes_.size(); }
  /// @throws LimitError if there are too many nodes or they are nested too deeply.
  NodeId add(Node node);
  NodeId number(long numerator, unsigned long denominator = 1);
  NodeId make(Kind kind, std::vector<NodeId> kids, std::string text = {});
  NodeId call(Function function, std::vector<NodeId> arguments);
  NodeId negate(NodeId id);

  const Node& operator[](NodeId id) const { return nodes_[id]; }
  Node& operator[](NodeId id) { return nodes_[id]; }
  size_t size() const { return nodes_.size(); }

 private:
  std::vector<Node> nodes_;
  size_t begin_ = 0;
};

constexpr bool is_structure(Kind kind) { return kind >= Kind::kBrackets; }

/// Values of symbols by atom_name.
using Environment = std::vector<std::pair<std::string, Rational>>;

/// True if both subtrees are written alike.
bool same_structure(const Tree& tree, NodeId a, NodeId b, StepBudget& budget);

/// The names of the symbols of a subtree, sorted, each once. Calls of unknown functions and opaque
/// nodes count as one symbol each: see atom_name.
std::vector<std::string> symbols_of(const Tree& tree, NodeId id, StepBudget& budget);

/// What stands for a kSymbol, kCall or kOpaque node wherever a symbol may stand; equal for equal
/// nodes.
std::string atom_name(const Tree& tree, NodeId id, StepBudget& budget);

/// True if a node of the kind is in the subtree.
bool contains(const Tree& tree, NodeId id, Kind kind, StepBudget& budget);

}  // namespace moerl::reward::math
