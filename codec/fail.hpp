// SPDX-License-Identifier: Apache-2.0
// How the library raises its errors.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "kvzip/error.hpp"

namespace kvzip {

template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// The same, of a file as a whole.
template <typename... Args>
[[noreturn]] void fail_in(std::string_view file, ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  Error error(code, fmt::format(format, std::forward<Args>(args)...));
  error.add_file(file);
  throw error;
}

/// Runs f, which has to do with one file: an error that names none gets this one.
template <typename F>
auto in_file(std::string_view file, F&& f) {
  try {
    return f();
  } catch (Error& error) {
    error.add_file(file);
    throw;
  }
}

}  // namespace kvzip
