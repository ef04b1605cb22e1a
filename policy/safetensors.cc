#include "policy/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <tuple>

#include "common/check.h"
#include "common/json.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::json;

// The format is little endian and values are copied as they lie.
static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kLengthBytes = 8;

struct DtypeInfo {
  std::string_view name;
  int64_t bits;
};
constexpr std::array<DtypeInfo, 20> kDtypes = {{
    {"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
    {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32}, {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

const DtypeInfo& info(SafetensorsDtype dtype) { return kDtypes[static_cast<size_t>(dtype)]; }

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 80 ? text : concat(value.type_name(), " of ", text.size(), " characters");
}

Json parse_header(std::string_view text, const std::string& file) {
  check_json(file + ": header", text);
  Json header = parse_json(text);
  if (!header.is_object())
    throw IoError(concat(file, ": the header is ", shown(header), ", expected an object"));
  return header;
}

/// What the header says about one tensor.
struct Entry {
  std::string name;
  TensorView view;
  uint64_t begin = 0, end = 0;
};

class EntryParser {
 public:
  EntryParser(const std::string& file, const std::string& name) : file_(file), name_(name) {}

  Entry parse(const Json& item) const {
    if (!item.is_object()) fail("is", item, "an object");
    for (const auto& [key, value] : item.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        fail(concat("has the field '", key, "':"), value, "dtype, shape and data_offsets only");
    Entry entry{name_, {}, 0, 0};
    entry.view.dtype = dtype(item.value("dtype", Json()));
    int64_t numel = 1;
    entry.view.shape = shape(item.value("shape", Json()), numel);
    const Json offsets = item.value("data_offsets", Json());
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned())
      fail("has data_offsets", offsets, "[begin, end]");
    entry.begin = offsets[0].get<uint64_t>();
    entry.end = offsets[1].get<uint64_t>();
    check_size(entry, numel, offsets);
    return entry;
  }

 private:
  [[noreturn]] void fail(std::string_view what, const Json& got, std::string_view expected) const {
    throw IoError(
        concat(file_, ": tensor '", name_, "' ", what, " ", shown(got), ", expected ", expected));
  }

  SafetensorsDtype dtype(const Json& value) const {
    if (value.is_string()) {
      const auto& name = value.get_ref<const std::string&>();
      for (size_t i = 0; i < kDtypes.size(); ++i)
        if (kDtypes[i].name == name) return static_cast<SafetensorsDtype>(i);
    }
    fail("has dtype", value, "a type of the safetensors format such as F32 or BF16");
  }

  Shape shape(const Json& value, int64_t& numel) const {
    if (!value.is_array()) fail("has shape", value, "a list");
    std::vector<int64_t> dims;
    for (const Json& dim : value) {
      constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
      if (!dim.is_number_unsigned() || dim.get<uint64_t>() > kMax)
        fail("has shape", value, "sizes of 0 or more");
      dims.push_back(dim.get<int64_t>());
      if (__builtin_mul_overflow(numel, dims.back(), &numel))
        fail("has shape", value, "fewer than 2^63 elements");
    }
    return Shape(std::move(dims));
  }

  void check_size(const Entry& entry, int64_t numel, const Json& offsets) const {
    int64_t bits = 0;
    if (__builtin_mul_overflow(numel, dtype_bits(entry.view.dtype), &bits) || bits % 8 != 0)
      throw IoError(concat(file_, ": tensor '", name_, "' has ", numel, " elements of ",
                           dtype_name(entry.view.dtype), ", expected whole bytes below 2^60"));
    const auto bytes = static_cast<uint64_t>(bits / 8);
    if (entry.end < entry.begin || entry.end - entry.begin != bytes)
      fail("has data_offsets", offsets,
           concat(bytes, " bytes for ", dtype_name(entry.view.dtype), " ", entry.view.shape));
  }

  const std::string& file_;
  const std::string& name_;
};

std::map<std::string, std::string> read_metadata(const Json& item, const std::string& file) {
  if (!item.is_object())
    throw IoError(concat(file, ": __metadata__ is ", shown(item), ", expected an object"));
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : item.items()) {
    if (!value.is_string())
      throw IoError(
          concat(file, ": __metadata__ '", key, "' is ", shown(value), ", expected text"));
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

/// Points every tensor at its bytes.
void place(std::vector<Entry>& entries, std::span<const std::byte> data, const std::string& file) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (Entry& entry : entries) {
    if (entry.begin != covered)
      throw IoError(concat(file, ": tensor '", entry.name, "' begins at byte ", entry.begin,
                           " of the data, expected ", covered,
                           " (tensors neither overlap nor leave gaps)"));
    if (entry.end > data.size())
      throw IoError(concat(file, ": tensor '", entry.name, "' ends at byte ", entry.end,
                           " of the data, but the file holds ", data.size(),
                           "; the file is truncated"));
    entry.view.data = data.subspan(entry.begin, entry.end - entry.begin);
    covered = entry.end;
  }
  if (covered != data.size())
    throw IoError(concat(file, ": the tensors end at byte ", covered,
                         " of the data, but there are ", data.size()));
}

}  // namespace

std::string_view dtype_name(SafetensorsDtype dtype) { return info(dtype).name; }

int64_t dtype_bits(SafetensorsDtype dtype) { return info(dtype).bits; }

std::optional<kernels::StoredFloat> stored_float(SafetensorsDtype dtype) {
  switch (dtype) {
    case SafetensorsDtype::kF32:
      return kernels::StoredFloat::kF32;
    case SafetensorsDtype::kBF16:
      return kernels::StoredFloat::kBF16;
    case SafetensorsDtype::kF16:
      return kernels::StoredFloat::kF16;
    case SafetensorsDtype::kF8E4M3:
      return kernels::StoredFloat::kE4M3;
    default:
      return std::nullopt;
  }
}

void convert_to_f32(const TensorView& tensor, float* out) {
  const std::optional<kernels::StoredFloat> format = stored_float(tensor.dtype);
  if (!format)
    throw IoError(concat("a tensor has dtype ", dtype_name(tensor.dtype),
                         ", expected F32, BF16, F16 or F8_E4M3 to read it as fp32"));
  kernels::decode_floats(detect_isa(), *format, tensor.data.data(), tensor.shape.numel(), 1,
                         DType::kF32, out);
}

SafetensorsContents parse_safetensors(const std::string& name, std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes)
    throw IoError(concat(name, ": has ", bytes.size(), " bytes, expected at least ", kLengthBytes));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxHeaderBytes)
    throw IoError(
        concat(name, ": the header has ", length, " bytes, expected at most ", kMaxHeaderBytes));
  if (length > bytes.size() - kLengthBytes)
    throw IoError(concat(name, ": the header has ", length, " bytes, but only ",
                         bytes.size() - kLengthBytes, " follow; the file is truncated"));
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  if (!header.starts_with('{'))
    throw IoError(concat(name, ": the header does not begin with '{'; not a safetensors file"));

  SafetensorsContents contents;
  std::vector<Entry> entries;
  const Json parsed = parse_header(header, name);
  for (const auto& [tensor, item] : parsed.items()) {
    if (tensor == "__metadata__")
      contents.metadata = read_metadata(item, name);
    else
      entries.push_back(EntryParser(name, tensor).parse(item));
  }
  place(entries, bytes.subspan(kLengthBytes + length), name);
  for (Entry& entry : entries) contents.tensors.emplace(entry.name, std::move(entry.view));
  return contents;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path),
      contents_(parse_safetensors(path.string(), std::as_bytes(std::span(file_.bytes())))) {}

void SafetensorsFile::release(const TensorView& tensor) const {
  file_.release({reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()});
}

const TensorView& SafetensorsFile::tensor(std::string_view name) const {
  const auto item = tensors().find(name);
  if (item == tensors().end())
    throw IoError(
        concat(path().string(), ": there is no tensor '", name, "' among the ", tensors().size()));
  return item->second;
}

}  // namespace moerl::policy
