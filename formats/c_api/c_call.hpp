// SPDX-License-Identifier: Apache-2.0
// Calls from C: what is thrown becomes a number and a message.
#pragma once

#include <exception>
#include <new>
#include <string_view>

#include "codec/fail.hpp"
#include "kvzip/kvzip.h"

namespace kvzip::c {

int note(const Error& error) noexcept;
int note(int status, std::string_view message) noexcept;

template <typename F>
int call(F&& f) noexcept {
  try {
    f();
    return KVZIP_OK;
  } catch (const Error& error) {
    return note(error);
  } catch (const std::bad_alloc&) {
    return note(KVZIP_NO_MEMORY, "not enough memory");
  } catch (const std::exception& error) {
    return note(KVZIP_FAILED, error.what());
  } catch (...) {
    return note(KVZIP_FAILED, "a defect of kvzip");
  }
}

/// The argument, which must not be null.
template <typename T>
T& given(T* argument, std::string_view name) {
  if (argument == nullptr) fail(ErrorCode::invalid_argument, "{} is a null pointer", name);
  return *argument;
}

}  // namespace kvzip::c
