// SPDX-License-Identifier: Apache-2.0
// safetensors files made from their text.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "formats/safetensors.hpp"
#include "kvzip/error.hpp"

namespace kvzip::test {

/// The Error that f throws, if any.
template <typename F>
std::optional<Error> error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

/// A file with this header and some data after it.
inline std::string file_text(std::string_view header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string text(sizeof length, '\0');
  std::memcpy(text.data(), &length, sizeof length);
  text += header;
  for (std::size_t i = 0; i < data_bytes; ++i) text += static_cast<char>(i * 7 + 1);
  return text;
}

inline std::unique_ptr<DumpReader> open_text(std::string_view text) {
  FileDescriptor fd(::memfd_create("kvzip-test", 0));
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) throw std::bad_alloc();
  return open_safetensors(InputFile(std::move(fd), "memory"));
}

}  // namespace kvzip::test
