#include "experiments/evaluation/suite/data_rows.h"

#include <algorithm>

#include "common/check.h"
#include "common/file.h"
#include "experiments/evaluation/suite/archive.h"

namespace moerl::eval {
namespace {

using nlohmann::json;

/// Whether the name fits a pattern in which * stands for any text.
bool matches(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  for (size_t at = star; at <= name.size(); ++at)
    if (matches(pattern.substr(star + 1), name.substr(at))) return true;
  return false;
}

/// A record of RFC 4180 from `at` on, which moves behind it. Counts lines, for errors.
std::vector<std::string> csv_record(std::string_view text, size_t& at, int64_t& line,
                                    const std::string& name) {
  std::vector<std::string> cells(1);
  const int64_t first_line = line;
  for (bool quoted = false; at < text.size() || quoted;) {
    if (at >= text.size())
      throw IoError(concat(name, ":", first_line, ": a quoted cell does not end"));
    const char c = text[at++];
    if (c == '\n') ++line;
    if (quoted) {
      if (c != '"') {
        cells.back() += c;
      } else if (at < text.size() && text[at] == '"') {
        cells.back() += text[at++];
      } else {
        quoted = false;
      }
    } else if (c == '"' && cells.back().empty()) {
      quoted = true;
    } else if (c == ',') {
      cells.emplace_back();
    } else if (c == '\n') {
      break;
    } else if (c != '\r' || at >= text.size() || text[at] != '\n') {
      cells.back() += c;
    }
  }
  return cells;
}

class RowsReader {
 public:
  explicit RowsReader(const SuiteSource& source) : source_(source) {}

  void read(const std::string& name, const std::string& member, std::string_view text) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    source_.format == "csv" ? read_csv(name, member, text) : read_jsonl(name, member, text);
  }
  std::vector<DataRow> take() { return std::move(rows_); }

 private:
  void add(json fields, const std::string& member, const std::string& where) {
    const int64_t number = next_++;
    if (number < source_.first_row) return;
    if (source_.num_rows > 0 && number >= source_.first_row + source_.num_rows) return;
    fields["_row"] = number;
    fields["_member"] = std::filesystem::path(member).stem().string();
    rows_.push_back({std::move(fields), number, where});
  }

  void read_jsonl(const std::string& name, const std::string& member, std::string_view text) {
    int64_t line = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view row = text.substr(at, end - at);
      at = end + 1;
      const std::string where = concat(name, ":", ++line);
      if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      json fields = try_parse_json(row);
      if (!fields.is_object()) throw IoError(concat(where, ": expected a JSON object"));
      add(std::move(fields), member, where);
    }
  }

  void read_csv(const std::string& name, const std::string& member, std::string_view text) {
    int64_t line = 1;
    std::vector<std::string> columns = source_.columns;
    for (size_t at = 0; at < text.size();) {
      const std::string where = concat(name, ":", line);
      std::vector<std::string> cells = csv_record(text, at, line, name);
      if (cells.size() == 1 && cells[0].empty()) continue;
      if (columns.empty()) {
        columns = std::move(cells);
        continue;
      }
      if (cells.size() != columns.size())
        throw IoError(concat(where, ": ", cells.size(), " cells, expected ", columns.size()));
      json fields = json::object();
      for (size_t i = 0; i < cells.size(); ++i) fields[columns[i]] = std::move(cells[i]);
      add(std::move(fields), member, where);
    }
  }

  const SuiteSource& source_;
  std::vector<DataRow> rows_;
  int64_t next_ = 0;
};

}  // namespace

std::vector<DataRow> read_data_rows(const SuiteSource& source, const std::filesystem::path& file) {
  std::string content = read_file(file);
  RowsReader reader(source);
  const std::string name = file.string();
  if (file.extension() == ".zip") {
    std::vector<ZipMember> members = read_zip(content, name);
    std::sort(members.begin(), members.end(),
              [](const ZipMember& a, const ZipMember& b) { return a.name < b.name; });
    bool found = false;
    for (const ZipMember& member : members) {
      if (!matches(source.members, member.name)) continue;
      reader.read(name + ":" + member.name, member.name, member.content);
      found = true;
    }
    if (!found) throw IoError(concat(name, ": no member is called '", source.members, "'"));
    return reader.take();
  }
  if (file.extension() == ".gz") content = gunzip(content, name);
  reader.read(name, file.filename().string(), content);
  return reader.take();
}

}  // namespace moerl::eval
