// SPDX-License-Identifier: Apache-2.0
// System calls with their loops and errors, shared by the files of formats/file.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "formats/file.hpp"

namespace kvzip {

/// fail(io, "NAME: cannot ACTION: ...") with the text of errno.
[[noreturn]] void fail_errno(std::string_view name, std::string_view action);
/// What is read here is no output's to replace, where keep_read_files() says so.
void note_read(int fd);
/// One read(2), repeated while interrupted; 0 at the end of the input.
std::size_t read_some(int fd, std::span<std::byte> out, std::string_view name);
void write_all(int fd, ByteView bytes, std::string_view name);
void write_all_at(int fd, std::uint64_t offset, ByteView bytes, std::string_view name);
/// Unless sync_outputs() says otherwise. Some file systems and special files cannot be flushed and say so; only real
/// failures count.
void flush_to_disk(int fd, const std::string& name);
/// Notes an input as it is now, for require_inputs_unchanged() while the result lives, and its permissions.
std::shared_ptr<const WatchedFile> watch_input(int fd, const std::string& name);
/// The permissions of a mode, as far as they hold for all of the group: with an access control list (acl(5)) the bits
/// of the group are the list's mask, and may be one other user's alone, so they are left out.
unsigned access_bits(int fd, unsigned mode);
unsigned access_bits(const std::string& path, unsigned mode);
/// Permissions of a new output that belongs to this group, or of one that replaces a file of these permissions.
unsigned output_mode(unsigned group, std::optional<unsigned> replaced);
/// A file in temporary_directory() that has no name: its space is given back when the last descriptor closes, however
/// the process ends.
FileDescriptor unnamed_temporary_file();

}  // namespace kvzip
