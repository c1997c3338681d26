// SPDX-License-Identifier: Apache-2.0
// Whether files may ask for more than their bytes have earned.
#pragma once

namespace kvzip {

/// A container may decode to 2^28 bytes and 4096 times its own size, and cost a reader work in proportion
/// (man/kvz.5, COST); more is refused with ErrorCode::limit before it is decoded, unless files are trusted. Of the
/// process; not trusted at first. Nothing that this library writes needs it.
void trust_files(bool trusted);
bool trusts_files();

}  // namespace kvzip
