// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_types.hpp"

#include <fmt/format.h>

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace kvzip::hdf5 {
namespace {

/// A binary float as H5Tget_fields states it: bit positions and widths.
struct FloatForm {
  DType dtype;
  std::size_t size, sign, exponent, exponent_bits, mantissa, mantissa_bits, bias;
};
constexpr std::array<FloatForm, 6> kFloatForms{{{DType::f16, 2, 15, 10, 5, 0, 10, 15},
                                                {DType::bf16, 2, 15, 7, 8, 0, 7, 127},
                                                {DType::f32, 4, 31, 23, 8, 0, 23, 127},
                                                {DType::f64, 8, 63, 52, 11, 0, 52, 1023},
                                                {DType::f8_e5m2, 1, 7, 2, 5, 0, 2, 15},
                                                {DType::f8_e4m3, 1, 7, 3, 4, 0, 3, 7}}};

/// Bytes to reverse for elements of `size` in this order; none for an order that is neither of the usual two.
std::optional<std::size_t> swap_of(Id type, std::size_t size) {
  const H5T_order_t order = H5Tget_order(type);
  if (order == H5T_ORDER_BE) return size;
  if (order == H5T_ORDER_LE || size == 1) return 1;
  return std::nullopt;
}

bool fills_its_bytes(Id type, std::size_t size) {
  return H5Tget_precision(type) == 8 * size && H5Tget_offset(type) == 0;
}

std::optional<ElementType> read_integer(Id type, std::size_t size) {
  const auto swap = swap_of(type, size);
  const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
  if (!swap || !fills_its_bytes(type, size)) return std::nullopt;
  switch (size) {
    case 1:
      return ElementType{is_signed ? DType::i8 : DType::u8, size, *swap, true};
    case 2:
      return ElementType{is_signed ? DType::i16 : DType::u16, size, *swap, true};
    case 4:
      return ElementType{is_signed ? DType::i32 : DType::u32, size, *swap, false};
    case 8:
      return ElementType{is_signed ? DType::i64 : DType::u64, size, *swap, false};
    default:
      return std::nullopt;
  }
}

std::optional<ElementType> read_float(Id type, std::size_t size) {
  const auto swap = swap_of(type, size);
  FloatForm form{DType::f32, size, 0, 0, 0, 0, 0, 0};
  if (!swap || !fills_its_bytes(type, size) || H5Tget_norm(type) != H5T_NORM_IMPLIED) return std::nullopt;
  check(H5Tget_fields(type, &form.sign, &form.exponent, &form.exponent_bits, &form.mantissa, &form.mantissa_bits), kBad,
        "cannot read a float type");
  form.bias = H5Tget_ebias(type);
  const auto same = [&](const FloatForm& f) {
    return f.size == form.size && f.sign == form.sign && f.exponent == form.exponent &&
           f.exponent_bits == form.exponent_bits && f.mantissa == form.mantissa &&
           f.mantissa_bits == form.mantissa_bits && f.bias == form.bias;
  };
  const auto* found = std::find_if(kFloatForms.begin(), kFloatForms.end(), same);
  if (found == kFloatForms.end()) return std::nullopt;
  return ElementType{found->dtype, size, *swap, false};
}

/// h5py's bool: an enumeration FALSE = 0, TRUE = 1 over one byte.
std::optional<ElementType> read_bool(Id type, std::size_t size) {
  if (size != 1 || H5Tget_nmembers(type) != 2) return std::nullopt;
  std::int8_t no = -1, yes = -1;
  if (H5Tenum_valueof(type, "FALSE", &no) < 0 || H5Tenum_valueof(type, "TRUE", &yes) < 0) return std::nullopt;
  if (no != 0 || yes != 1) return std::nullopt;
  return ElementType{DType::boolean, size, 1, false};
}

/// h5py's complex64: a compound {r, i} of two F32.
std::optional<ElementType> read_complex(Id type, std::size_t size) {
  if (size != 8 || H5Tget_nmembers(type) != 2) return std::nullopt;
  if (H5Tget_member_index(type, "r") != 0 || H5Tget_member_index(type, "i") != 1) return std::nullopt;
  std::optional<ElementType> parts[2];
  for (unsigned m = 0; m < 2; ++m) {
    const Handle member = own(H5Tget_member_type(type, m), H5Tclose, kBad, "cannot read a compound type");
    if (H5Tget_class(member.get()) != H5T_FLOAT || H5Tget_member_offset(type, m) != std::size_t{4} * m)
      return std::nullopt;
    parts[m] = read_float(member.get(), H5Tget_size(member.get()));
    if (!parts[m] || parts[m]->dtype != DType::f32) return std::nullopt;
  }
  if (parts[0]->swap != parts[1]->swap) return std::nullopt;
  return ElementType{DType::c64, size, parts[0]->swap, false};
}

Handle make_float(const FloatForm& form) {
  Handle type = own(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, ErrorCode::io, "cannot make a float type");
  if (form.dtype == DType::f32) return type;
  if (form.dtype == DType::f64)
    return own(H5Tcopy(H5T_IEEE_F64LE), H5Tclose, ErrorCode::io, "cannot make a float type");
  const Id id = type.get();
  const bool made =
      H5Tset_fields(id, form.sign, form.exponent, form.exponent_bits, form.mantissa, form.mantissa_bits) >= 0 &&
      H5Tset_precision(id, 8 * form.size) >= 0 && H5Tset_size(id, form.size) >= 0 && H5Tset_ebias(id, form.bias) >= 0;
  if (!made) fail_library(ErrorCode::io, "cannot make a float type");
  return type;
}

Handle make_bool() {
  Handle type = own(H5Tenum_create(H5T_STD_I8LE), H5Tclose, ErrorCode::io, "cannot make the bool type");
  const std::int8_t no = 0, yes = 1;
  check(H5Tenum_insert(type.get(), "FALSE", &no), ErrorCode::io, "cannot make the bool type");
  check(H5Tenum_insert(type.get(), "TRUE", &yes), ErrorCode::io, "cannot make the bool type");
  return type;
}

Handle make_complex() {
  Handle type = own(H5Tcreate(H5T_COMPOUND, 8), H5Tclose, ErrorCode::io, "cannot make the complex type");
  check(H5Tinsert(type.get(), "r", 0, H5T_IEEE_F32LE), ErrorCode::io, "cannot make the complex type");
  check(H5Tinsert(type.get(), "i", 4, H5T_IEEE_F32LE), ErrorCode::io, "cannot make the complex type");
  return type;
}

Id integer_type(DType dtype) {
  switch (dtype) {
    case DType::i8:
      return H5T_STD_I8LE;
    case DType::i16:
      return H5T_STD_I16LE;
    case DType::u16:
      return H5T_STD_U16LE;
    case DType::i32:
      return H5T_STD_I32LE;
    case DType::u32:
      return H5T_STD_U32LE;
    case DType::i64:
      return H5T_STD_I64LE;
    case DType::u64:
      return H5T_STD_U64LE;
    default:
      return H5T_STD_U8LE;
  }
}

}  // namespace

std::optional<ElementType> read_type(Id type) {
  const std::size_t size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return read_integer(type, size);
    case H5T_FLOAT:
      return read_float(type, size);
    case H5T_ENUM:
      return read_bool(type, size);
    case H5T_COMPOUND:
      return read_complex(type, size);
    case H5T_OPAQUE:
      return ElementType{std::nullopt, size, 1, true};
    default:
      return std::nullopt;
  }
}

std::string describe_type(Id type) {
  const std::size_t bytes = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return fmt::format("integer of {} bits in {} bytes", H5Tget_precision(type), bytes);
    case H5T_FLOAT:
      return fmt::format("float of {} bits in {} bytes with exponent bias {}", H5Tget_precision(type), bytes,
                         H5Tget_ebias(type));
    case H5T_STRING:
      return H5Tis_variable_str(type) > 0 ? "variable-length string" : "fixed-length string";
    case H5T_BITFIELD:
      return "bit field";
    case H5T_OPAQUE:
      return fmt::format("opaque of {} bytes", bytes);
    case H5T_COMPOUND:
      return "compound";
    case H5T_REFERENCE:
      return "reference";
    case H5T_ENUM:
      return "enumeration";
    case H5T_VLEN:
      return "variable-length list";
    case H5T_ARRAY:
      return "array";
    default:
      return "of an unknown class";
  }
}

Handle make_type(DType dtype) {
  if (dtype == DType::boolean) return make_bool();
  if (dtype == DType::c64) return make_complex();
  for (const FloatForm& form : kFloatForms) {
    if (form.dtype == dtype) return make_float(form);
  }
  return own(H5Tcopy(integer_type(dtype)), H5Tclose, ErrorCode::io, "cannot make an integer type");
}

bool is_bits_elsewhere(DType dtype) {
  return dtype == DType::bf16 || dtype == DType::f8_e4m3 || dtype == DType::f8_e5m2;
}

bool needs_name(DType dtype) {
  switch (dtype) {
    case DType::f4:
    case DType::f6_e2m3:
    case DType::f6_e3m2:
    case DType::f8_e4m3:
    case DType::f8_e8m0:
    case DType::f8_e4m3fnuz:
    case DType::f8_e5m2fnuz:
      return true;
    default:
      return false;
  }
}

std::optional<DType> parse_type_name(std::string_view name) {
  if (const auto dtype = parse_dtype(name)) return dtype;
  constexpr std::string_view kTorch = "torch.";
  if (name.starts_with(kTorch)) name.remove_prefix(kTorch.size());
  struct Alias {
    std::string_view name;
    DType dtype;
  };
  static constexpr std::array<Alias, 14> kAliases{{{"bfloat16", DType::bf16},
                                                   {"bf16", DType::bf16},
                                                   {"float16", DType::f16},
                                                   {"half", DType::f16},
                                                   {"f16", DType::f16},
                                                   {"fp16", DType::f16},
                                                   {"f8_e4m3fn", DType::f8_e4m3},
                                                   {"float8_e4m3fn", DType::f8_e4m3},
                                                   {"float8_e4m3", DType::f8_e4m3},
                                                   {"float8_e5m2", DType::f8_e5m2},
                                                   {"float8_e4m3fnuz", DType::f8_e4m3fnuz},
                                                   {"float8_e5m2fnuz", DType::f8_e5m2fnuz},
                                                   {"float8_e8m0fnu", DType::f8_e8m0},
                                                   {"float32", DType::f32}}};
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  for (const Alias& alias : kAliases) {
    if (alias.name == lower) return alias.dtype;
  }
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return static_cast<char>(std::toupper(static_cast<unsigned char>(c))); });
  return parse_dtype(lower);
}

void swap_bytes(std::span<std::byte> data, std::size_t width) {
  if (width < 2) return;
  for (std::size_t i = 0; i + width <= data.size(); i += width) {
    std::reverse(data.begin() + static_cast<std::ptrdiff_t>(i), data.begin() + static_cast<std::ptrdiff_t>(i + width));
  }
}

}  // namespace kvzip::hdf5
