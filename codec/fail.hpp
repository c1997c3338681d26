// SPDX-License-Identifier: Apache-2.0
// How the library raises its errors.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "kvzip/error.hpp"

namespace kvzip {

template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace kvzip
