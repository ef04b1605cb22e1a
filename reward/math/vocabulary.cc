#include "reward/math/vocabulary.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "reward/ascii.h"

namespace moerl::reward::math {
namespace {

using Action = CommandMeaning::Action;

template <class Value>
using Table = std::unordered_map<std::string_view, Value>;

/// Entries of a space-separated list.
template <class Function>
void for_each_word(std::string_view list, Function&& function) {
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(' ', at), list.size());
    if (end > at) function(list.substr(at, end - at));
    at = end + 1;
  }
}

Table<CommandMeaning> make_commands() {
  Table<CommandMeaning> table;
  auto add = [&](std::string_view names, Action action) {
    for_each_word(names, [&](std::string_view name) { table[name] = {action, {}, {}}; });
  };
  auto symbol = [&](std::string_view names, std::string_view text) {
    for_each_word(names, [&](std::string_view name) {
      table[name] = {Action::kToken, TokenKind::kSymbol, text};
    });
  };
  auto command = [&](std::string_view names, std::string_view text) {
    for_each_word(names, [&](std::string_view name) {
      table[name] = {Action::kToken, TokenKind::kCommand, text};
    });
  };
  add("left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm "
      "displaystyle textstyle scriptstyle scriptscriptstyle limits nolimits nonumber notag ! "
      "mathop mathrel mathbin mathord rm bf it cal sf tt em boldmath unboldmath strut "
      "centering tiny small normalsize large Large LARGE huge Huge $ left. right. therefore "
      "hline square blacksquare Box ( ) [ ]",
      Action::kIgnore);
  add(", ; : > quad qquad thinspace medspace thickspace enspace space hfill hfil newline par ~ "
      "linebreak noindent",
      Action::kSpace);
  add("phantom hphantom vphantom hspace vspace color textcolor label tag kern mspace",
      Action::kSkipGroup);
  add("text mbox hbox textnormal textrm textbf textit textsf texttt textup textsl emph mathrm "
      "operatorname operatorname* mathsf mathtt fbox* underline textsc mathop*",
      Action::kText);
  add("boxed fbox mathbf mathit mathcal mathscr mathfrak boldsymbol bm pmb hat tilde "
      "widehat widetilde mathnormal ensuremath smash cancel",
      Action::kOpenGroup);
  symbol("cdot times ast star bullet", "*");
  symbol("div", "/");
  symbol("pm", "+-");
  symbol("mp", "-+");
  symbol("le leq leqslant leqq", "<=");
  symbol("ge geq geqslant geqq", ">=");
  symbol("lt", "<");
  symbol("gt", ">");
  symbol("ne neq not=", "!=");
  symbol("approx simeq thickapprox doteq", "~~");
  symbol("equiv cong", "==");
  symbol("colon", ":");
  symbol("lvert rvert vert mid |", "|");
  symbol("lVert rVert Vert", "|");
  symbol("{ lbrace", "\\{");
  symbol("} rbrace", "\\}");
  symbol("lbrack", "[");
  symbol("rbrack", "]");
  symbol("lparen", "(");
  symbol("rparen", ")");
  symbol("%", "%");
  symbol("_", "_");
  symbol("prime", "'");
  symbol("\\ cr", "\\\\");
  symbol("land wedge", ";");
  command("frac dfrac tfrac cfrac", "frac");
  command("binom dbinom tbinom", "binom");
  command("cup bigcup", "cup");
  command("cap bigcap", "cap");
  command("setminus smallsetminus backslash", "setminus");
  command("emptyset varnothing", "emptyset");
  command("infty infin", "infty");
  command("circ degree", "circ");
  command("ldots dots cdots dotsc dotsb vdots ddots", "ldots");
  command("langle", "langle");
  command("rangle", "rangle");
  command("epsilon varepsilon", "epsilon");
  command("phi varphi", "phi");
  command("theta vartheta", "theta");
  command("rho varrho", "rho");
  command("sigma varsigma", "sigma");
  command("lor vee", "or");
  command("arcsin asin", "arcsin");
  command("arccos acos", "arccos");
  command("arctan atan arctg", "arctan");
  command("arccot acot arcctg", "arccot");
  command("arcsec asec", "arcsec");
  command("arccsc acsc", "arccsc");
  command("arcsinh arsinh asinh", "arcsinh");
  command("arccosh arcosh acosh", "arccosh");
  command("arctanh artanh atanh", "arctanh");
  command("tan tg", "tan");
  command("cot ctg", "cot");
  command("csc cosec", "csc");
  command("ceil ceiling", "ceil");
  command("mod bmod", "mod");
  command("iff Leftrightarrow leftrightarrow", "iff");
  command("to rightarrow Rightarrow implies longrightarrow mapsto", "to");
  command("exponentialE", "e");
  command("imaginaryI imaginaryJ", "i");
  command("vec overrightarrow", "vec");
  return table;
}

Table<std::string_view> make_words() {
  Table<std::string_view> table;
  for_each_word(
      "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech "
      "csch arcsinh arccosh arctanh sqrt cbrt ln log lg exp abs floor ceil gcd lcm max min det mod "
      "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi "
      "chi "
      "psi omega Gamma Delta Theta Lambda Pi Sigma Phi Psi Omega infty binom emptyset frac",
      [&](std::string_view word) { table[word] = word; });
  for (const auto& [word, meaning] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"infinity", "infty"}, {"Infinity", "infty"},
           {"inf", "infty"},      {"oo", "infty"},
           {"asin", "arcsin"},    {"acos", "arccos"},
           {"atan", "arctan"},    {"acot", "arccot"},
           {"asinh", "arcsinh"},  {"acosh", "arccosh"},
           {"atanh", "arctanh"},  {"tg", "tan"},
           {"arsinh", "arcsinh"}, {"arcosh", "arccosh"},
           {"artanh", "arctanh"}, {"ceiling", "ceil"},
           {"union", "cup"},      {"degrees", "circ"},
           {"degree", "circ"},    {"percent", "percent"},
           {"pct", "percent"},    {"percentage", "percent"},
           {"and", "and"},        {"or", "or"},
           {"And", "and"},        {"Or", "or"},
           {"和", "and"},         {"与", "and"},
           {"且", "and"},         {"以及", "and"},
           {"或", "or"},          {"或者", "or"}})
    table[word] = meaning;
  return table;
}

Table<std::string_view> make_units() {
  Table<std::string_view> table;
  // The first of each group is the name of all of it.
  for (std::string_view group : {"m meter meters metre metres 米",
                                 "cm centimeter centimeters centimetre centimetres 厘米",
                                 "mm millimeter millimeters millimetre millimetres 毫米",
                                 "km kilometer kilometers kilometre kilometres 千米 公里",
                                 "in inch inches",
                                 "ft foot feet",
                                 "yd yard yards",
                                 "mi mile miles",
                                 "s sec second seconds secs 秒",
                                 "min minute minutes mins 分钟",
                                 "h hr hrs hour hours 小时",
                                 "day days 天",
                                 "week weeks",
                                 "month months",
                                 "year years yr yrs",
                                 "g gram grams 克",
                                 "kg kilogram kilograms kgs 千克 公斤",
                                 "mg milligram milligrams",
                                 "lb lbs pound pounds",
                                 "oz ounce ounces",
                                 "ton tons tonne tonnes",
                                 "L l liter liters litre litres",
                                 "ml mL milliliter milliliters",
                                 "gallon gallons gal",
                                 "quart quarts",
                                 "pint pints",
                                 "cup cups",
                                 "acre acres",
                                 "hectare hectares",
                                 "dollar dollars USD usd bucks",
                                 "cent cents",
                                 "euro euros EUR",
                                 "yuan RMB rmb 元",
                                 "rupees rupee",
                                 "pence penny pennies",
                                 "nickel nickels",
                                 "dime dimes",
                                 "quarters quarter",
                                 "mph",
                                 "kmh kph",
                                 "J joule joules",
                                 "N newton newtons",
                                 "W watt watts",
                                 "V volt volts",
                                 "A amp amps ampere amperes",
                                 "Hz hertz",
                                 "Pa pascal pascals",
                                 "K kelvin kelvins",
                                 "mol mole moles",
                                 "rad radian radians",
                                 "am AM",
                                 "pm PM",
                                 "cm2 平方厘米",
                                 "m2 平方米",
                                 "cm3 立方厘米",
                                 "m3 立方米",
                                 "deg 度",
                                 "square squares sq",
                                 "cubic cu",
                                 "per"}) {
    const std::string_view name = group.substr(0, group.find(' '));
    for_each_word(group, [&](std::string_view word) { table[word] = name; });
  }
  for_each_word(
      "way ways time times student students person people persons child children boy boys girl "
      "girls "
      "man men woman women book books apple apples orange oranges marble marbles ball balls card "
      "cards "
      "coin coins point points value values solution solutions integer integers number numbers "
      "triangle "
      "triangles rectangle rectangles game games piece pieces dog dogs cat cats car cars page "
      "pages step "
      "steps term terms digit digits factor factors divisor divisors edge edges vertex vertices "
      "face "
      "faces member members team teams player players ticket tickets egg eggs item items box boxes "
      "bag "
      "bags tree trees flower flowers cookie cookies cupcake cupcakes total distinct right "
      "different "
      "possible arrangement arrangements combination combinations permutation permutations "
      "possibilities outcome outcomes pair pairs subset subsets element elements side sides row "
      "rows "
      "turn turns root roots unit units st nd rd th 个 人 只 种 次 本 条 张 块 名 件 岁",
      [&](std::string_view word) { table[word] = kCounted; });
  return table;
}

Table<CharacterMeaning> make_characters() {
  using C = CharacterMeaning;
  Table<C> table;
  auto add = [&](C::Action action, TokenKind kind,
                 std::initializer_list<std::pair<std::string_view, std::string_view>> entries) {
    for (const auto& [character, text] : entries) table[character] = {action, kind, text};
  };
  add(C::Action::kToken, TokenKind::kSymbol,
      {{"−", "-"},  {"–", "-"},  {"—", "-"},  {"‐", "-"},  {"‑", "-"},  {"×", "*"},  {"·", "*"},
       {"⋅", "*"},  {"∙", "*"},  {"•", "*"},  {"∗", "*"},  {"÷", "/"},  {"∕", "/"},  {"⁄", "/"},
       {"±", "+-"}, {"∓", "-+"}, {"≤", "<="}, {"⩽", "<="}, {"≥", ">="}, {"⩾", ">="}, {"≠", "!="},
       {"≈", "~~"}, {"≡", "=="}, {"′", "'"},  {"∣", "|"},  {"∶", ":"},  {"∧", ";"}});
  add(C::Action::kToken, TokenKind::kCommand,
      {{"π", "pi"},       {"∞", "infty"},    {"√", "sqrt"},     {"∛", "cbrt"},
       {"∪", "cup"},      {"∩", "cap"},      {"∖", "setminus"}, {"∈", "in"},
       {"∉", "notin"},    {"∅", "emptyset"}, {"Ø", "emptyset"}, {"°", "circ"},
       {"º", "circ"},     {"…", "ldots"},    {"⋯", "ldots"},    {"∑", "sum"},
       {"∏", "prod"},     {"∫", "int"},      {"⌊", "lfloor"},   {"⌋", "rfloor"},
       {"⌈", "lceil"},    {"⌉", "rceil"},    {"⟨", "langle"},   {"⟩", "rangle"},
       {"∨", "or"},       {"ℝ", "mathbb:R"}, {"ℤ", "mathbb:Z"}, {"ℚ", "mathbb:Q"},
       {"ℕ", "mathbb:N"}, {"ℂ", "mathbb:C"}, {"α", "alpha"},    {"β", "beta"},
       {"γ", "gamma"},    {"δ", "delta"},    {"ε", "epsilon"},  {"ζ", "zeta"},
       {"η", "eta"},      {"θ", "theta"},    {"κ", "kappa"},    {"λ", "lambda"},
       {"μ", "mu"},       {"ν", "nu"},       {"ξ", "xi"},       {"ρ", "rho"},
       {"σ", "sigma"},    {"τ", "tau"},      {"φ", "phi"},      {"ϕ", "phi"},
       {"χ", "chi"},      {"ψ", "psi"},      {"ω", "omega"},    {"Γ", "Gamma"},
       {"Δ", "Delta"},    {"Θ", "Theta"},    {"Λ", "Lambda"},   {"Σ", "Sigma"},
       {"Φ", "Phi"},      {"Ψ", "Psi"},      {"Ω", "Omega"}});
  // Text that is read in place of the character.
  add(C::Action::kText, {},
      {{"²", "^{2}"},
       {"³", "^{3}"},
       {"¹", "^{1}"},
       {"⁰", "^{0}"},
       {"⁴", "^{4}"},
       {"⁵", "^{5}"},
       {"⁶", "^{6}"},
       {"⁷", "^{7}"},
       {"⁸", "^{8}"},
       {"⁹", "^{9}"},
       {"₀", "_{0}"},
       {"₁", "_{1}"},
       {"₂", "_{2}"},
       {"₃", "_{3}"},
       {"₄", "_{4}"},
       {"₅", "_{5}"},
       {"₆", "_{6}"},
       {"₇", "_{7}"},
       {"₈", "_{8}"},
       {"₉", "_{9}"},
       {"½", "\\frac{1}{2}"},
       {"⅓", "\\frac{1}{3}"},
       {"⅔", "\\frac{2}{3}"},
       {"¼", "\\frac{1}{4}"},
       {"¾", "\\frac{3}{4}"},
       {"⅕", "\\frac{1}{5}"},
       {"⅖", "\\frac{2}{5}"},
       {"⅗", "\\frac{3}{5}"},
       {"⅘", "\\frac{4}{5}"},
       {"⅙", "\\frac{1}{6}"},
       {"⅚", "\\frac{5}{6}"},
       {"⅛", "\\frac{1}{8}"},
       {"⅜", "\\frac{3}{8}"},
       {"⅝", "\\frac{5}{8}"},
       {"⅞", "\\frac{7}{8}"},
       {"，", ", "},
       {"、", ", "},
       {"；", "; "},
       {"：", ":"},
       {"。", ". "},
       {"（", "("},
       {"）", ")"},
       {"％", "%"}});
  for (std::string_view space :
       {"\u00A0", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009",
        "\u200A", "\u202F", "\u205F", "\u3000"})
    table[space] = {C::Action::kSpace, {}, {}};
  for (std::string_view nothing :
       {"\u200B", "\u200C", "\u200D", "\u2060", "\u2061", "\u2062", "\uFEFF", "\uFE0F", "€", "£",
        "¥", "￥", "✅", "✔", "“", "”", "‘", "’"})
    table[nothing] = {C::Action::kIgnore, {}, {}};
  return table;
}

}  // namespace

namespace {

const Table<CommandMeaning>& commands() {
  static const Table<CommandMeaning> table = make_commands();
  return table;
}

}  // namespace

CommandMeaning command_meaning(std::string_view name) {
  const auto it = commands().find(name);
  return it == commands().end() ? CommandMeaning{Action::kToken, TokenKind::kCommand, name}
                                : it->second;
}

bool is_known_command(std::string_view name) {
  return commands().contains(name) || !word_meaning(name).empty();
}

CharacterMeaning character_meaning(std::string_view utf8) {
  static const Table<CharacterMeaning> table = make_characters();
  const auto it = table.find(utf8);
  if (it != table.end()) return it->second;
  // Full-width forms of ASCII, U+FF01 .. U+FF5E.
  static const std::string ascii = [] {
    std::string all;
    for (char c = 0x21; c < 0x7F; ++c) all += c;
    return all;
  }();
  if (utf8.size() == 3 && utf8[0] == '\xEF' && (utf8[1] == '\xBC' || utf8[1] == '\xBD')) {
    const int offset = (static_cast<unsigned char>(utf8[1]) - 0xBC) * 64 +
                       (static_cast<unsigned char>(utf8[2]) - 0x80) - 1;
    if (0 <= offset && offset < static_cast<int>(ascii.size()))
      return {CharacterMeaning::Action::kText, {}, std::string_view(ascii).substr(offset, 1)};
  }
  return {};
}

std::string_view word_meaning(std::string_view word) {
  static const Table<std::string_view> table = make_words();
  const auto it = table.find(word);
  return it == table.end() ? std::string_view() : it->second;
}

std::string_view unit_name(std::string_view word) {
  static const Table<std::string_view> table = make_units();
  const auto it = table.find(word);
  return it == table.end() ? std::string_view() : it->second;
}

long scale_of(std::string_view word) {
  if (word == "hundred") return 100;
  if (word == "thousand") return 1000;
  if (word == "million") return 1'000'000;
  if (word == "billion") return 1'000'000'000;
  if (word == "trillion") return 1'000'000'000'000;
  if (word == "dozen") return 12;
  return 0;
}

bool is_function_word(std::string_view word) {
  static const Table<bool> table = [] {
    Table<bool> words;
    for_each_word(
        "a an the and or not no is are be to of in on at by for from if then when where with "
        "than more less least most mod modulo only but else otherwise both either any all "
        "some none never always true false yes any each over under between about half",
        [&](std::string_view word) { words[word] = true; });
    return words;
  }();
  std::string folded(word);
  for (char& c : folded) c = to_lower(c);
  return table.contains(folded);
}

}  // namespace moerl::reward::math
