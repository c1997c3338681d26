// SPDX-License-Identifier: Apache-2.0
// What the library itself needs of the container beyond kvzip/container.hpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "formats/file.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "kvzip/container.hpp"
#include "kvzip/recover.hpp"

namespace kvzip {

/// A file of this kind. A pipe that does not begin as one is refused before it is copied.
InputFile kvz_input(const std::string& path, FileKind kind = FileKind::container);

/// `path`: where the file stands, beside which those are whose first tokens or tables it shares; empty = nowhere.
/// `depth`: files that were opened for tokens of this one.
std::unique_ptr<KvzReader> open_kvz(InputFile file, const std::string& path, unsigned depth = 0);
/// The same with the path that the file has.
std::unique_ptr<KvzReader> open_kvz(InputFile file);
/// Of a container that shares its first tokens, those that it holds itself; the other file is not looked for.
std::unique_ptr<KvzReader> open_kvz_own(const std::string& path);
/// One container of a file: a segment_file() of formats/kvz/kvz_segments.hpp, appended or not.
std::unique_ptr<KvzReader> open_kvz_segment(InputFile file);
/// A container from a stream, which must outlive the reader. `appended`: it stands behind another in its file;
/// `shared`: its first tokens, if they are in another, are not asked for.
std::unique_ptr<KvzReader> open_kvz(InputStream& stream, bool appended = false, bool shared = false);

/// A container that may be damaged; from a pipe, as it needs positions, a copy.
InputFile salvage_input(const std::string& path);
/// What is damaged of a container that comes through a pipe, of which nothing is kept.
KvzDamage damage_of(InputStream& stream, unsigned threads, const Progress& progress);
/// As recover_kvz() of kvzip/recover.hpp. `path`: where the file stands, with its tables beside it; empty = nowhere.
KvzDamage recover_kvz(const std::shared_ptr<const InputFile>& file, const std::string& path,
                      const RecoverOptions& options, const Progress& progress = {});

/// As base_of() of kvzip/container.hpp; the file's path ends with its name.
KvzBase base_of(const InputFile& file, std::uint64_t tokens);

/// A name that can stand in a header: of a file in the same folder, in UTF-8 and without control characters.
bool is_base_name(std::string_view name);

}  // namespace kvzip
