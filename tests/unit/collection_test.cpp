// SPDX-License-Identifier: Apache-2.0
// Collections as archives: where members are, what is refused, and what is written. What containers in them share is
// in tests/contract/shared_prefix_test.cpp and tests/cli/collection.sh.
#include "formats/collection.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <filesystem>

#include "codec/limits.hpp"
#include "formats/format_table.hpp"
#include "formats/tar_header.hpp"
#include "tests/support/tar_bytes.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip {
namespace {

using namespace test;
using namespace std::literals;

const std::string kMagic("\x89KVZ\r\n\x1a\n", 8);

std::string container(std::string_view rest) {
  return kMagic + std::string(rest);
}

std::vector<CollectionMember> members_of(const std::string& archive) {
  return read_collection(InputFile(view(archive), "all.tar"));
}

std::optional<ErrorCode> refused(const std::string& archive) {
  return code_of([&] { members_of(archive); });
}

std::string size_field(std::initializer_list<int> bytes) {
  std::string out;
  for (const int byte : bytes) out += static_cast<char>(byte);
  return out;
}

const TarEntry kA{"a.kvz", container("first")}, kB{"b.kvz", container(std::string(600, 'b'))};

}  // namespace

TEST_CASE("collection: members are found by the headers of tar") {
  const std::string archive = tar_entry(kA) + tar_entry(kB) + kTarEnd;
  CHECK(begins_collection(view(archive)));
  const auto members = members_of(archive);
  REQUIRE(members.size() == 2);
  CHECK(members[0].name == "a.kvz");
  CHECK(members[0].begin == 512);
  CHECK(members[0].bytes == 13);
  CHECK(members[1].name == "b.kvz");
  CHECK(members[1].begin == 1536);
  CHECK(members[1].bytes == 608);
  // As GNU tar writes them; what follows the end is no part of it.
  TarEntry gnu = kA;
  gnu.magic = std::string("ustar  \0", 8);
  gnu.prefix = "14717237120";  // a time, there
  gnu.type = '\0';
  CHECK(members_of(tar_entry(gnu) + kTarEnd + std::string(9000, 'x')).at(0).name == "a.kvz");
  CHECK(members_of(kTarEnd).empty());
}

TEST_CASE("collection: names and sizes of pax headers") {
  const std::string name = std::string(150, 'n') + ".kvz";
  const auto with = [](const std::string& records, const TarEntry& entry) {
    return tar_entry({"pax", records, "", 'x'}) + tar_entry(entry) + kTarEnd;
  };
  const std::string archive = with("30 mtime=1732904432.123456789\n164 path=" + name + "\n", kA);
  CHECK(begins_collection(view(archive)));
  CHECK(members_of(archive).at(0).name == name);
  CHECK(members_of(archive).at(0).begin == 1536);
  TarEntry unsaid = kA;
  unsaid.size = "00000000000";
  CHECK(members_of(with("11 size=13\n", unsaid)).at(0).bytes == 13);
  for (const std::string records :
       {"30 mtime=1\n", "11 size=13", "0 a=b\n", "4 a=\n", "x path=a\n", "99999999999999999999 a=b\n", "8 pathx\n",
        "12 size=-13\n", "13 size=1e10\n", " ", "5\n"}) {
    CAPTURE(records);
    CHECK(refused(with(records, kA)) == ErrorCode::corrupt);
  }
  CHECK(refused(with("13 path=../a\n", kA)) == ErrorCode::unsupported);
  CHECK(refused(with("22 GNU.sparse.major=1\n", kA)) == ErrorCode::unsupported);
  CHECK(refused(with("29 size=18446744073709551615\n", kA)) == ErrorCode::truncated);
  const std::string pax = tar_entry({"pax", "11 size=13\n", "", 'x'});
  CHECK(refused(pax + kTarEnd) == ErrorCode::corrupt);
  CHECK(refused(pax + pax + tar_entry(kA) + kTarEnd) == ErrorCode::corrupt);
}

TEST_CASE("collection: records about a member are as long as a reader allows, of the first member, too") {
  const auto with = [](std::size_t bytes) {
    const std::string front = fmt::format("{} comment=", bytes);
    const std::string record = front + std::string(bytes - front.size() - 1, 'c') + "\n";
    return tar_entry({"pax", record, "", 'x'}) + tar_entry(kA) + kTarEnd;
  };
  const std::string most = with(limits::kPaxBytes), more = with(limits::kPaxBytes + 1);
  CHECK(members_of(most).at(0).name == "a.kvz");
  CHECK(begins_collection(InputFile(view(most), "all.tar")));
  std::string said;
  try {
    members_of(more);
  } catch (const Error& e) {
    said = e.message();
  }
  CHECK(said == fmt::format("tar: a pax header of {} bytes is too long", limits::kPaxBytes + 1));
  CHECK_FALSE(begins_collection(InputFile(view(more), "all.tar")));
}

TEST_CASE("collection: what is no collection, or damaged, is refused") {
  const std::string good = tar_entry(kA) + tar_entry(kB) + kTarEnd;
  for (std::size_t length = 1; length < good.size(); length += 97) {
    CAPTURE(length);
    CHECK(refused(good.substr(0, length)) == ErrorCode::truncated);
  }
  CHECK(refused(good.substr(0, good.size() - 512)) == ErrorCode::truncated);
  const auto alone = [](const TarEntry& entry) { return refused(tar_entry(entry) + kTarEnd); };
  for (const char* name : {"", ".", "..", "../a.kvz", "/a.kvz", "x/a.kvz", "a\\b", "a\nb", "\xff.kvz"}) {
    CAPTURE(name);
    CHECK(alone({name, kA.content}) == ErrorCode::unsupported);
  }
  TarEntry below = kA;
  below.prefix = "folder";
  CHECK(alone(below) == ErrorCode::unsupported);
  for (const char type : "1234567gLKSDV"sv) {  // links, devices, folders, sparse files and what GNU tar adds
    CAPTURE(type);
    CHECK(alone({"a.kvz", kA.content, "", type}) == ErrorCode::unsupported);
  }
  CHECK(refused(tar_entry(kA) + tar_entry(kA) + kTarEnd) == ErrorCode::corrupt);
  CHECK(refused(tar_entry(kA) + tar_entry({"text", "none"}) + kTarEnd) == ErrorCode::unsupported);
  CHECK(refused(tar_entry(kA) + tar_entry({"empty", ""}) + kTarEnd) == ErrorCode::unsupported);
  TarEntry wrong = kA;
  wrong.wrong = 1;
  CHECK(alone(wrong) == ErrorCode::corrupt);
  CHECK_FALSE(begins_collection(view(tar_entry(wrong) + kTarEnd)));
  CHECK(refused(tar_entry(kA) + std::string(512, 'x') + kTarEnd) == ErrorCode::corrupt);
  CHECK(refused(tar_entry(kA) + std::string(512, '\0') + tar_entry(kB) + kTarEnd) == ErrorCode::corrupt);
  CHECK_FALSE(begins_collection(view(tar_entry({"text", "none"}) + tar_entry(kA) + kTarEnd)));
  CHECK_FALSE(begins_collection({}));
}

TEST_CASE("collection: names with ./ before them, and the folder itself") {
  const TarEntry here{"./", "", "", '5'};
  const auto dotted = [](TarEntry entry) {
    entry.name = "./" + entry.name;
    return tar_entry(entry);
  };
  const std::string archive = tar_entry(here) + dotted(kA) + tar_entry(here) + tar_entry(kB) + kTarEnd;
  CHECK(begins_collection(view(archive)));
  const auto members = members_of(archive);
  REQUIRE(members.size() == 2);
  CHECK(members[0].name == "a.kvz");
  CHECK(members[0].begin == 1024);
  CHECK(members[1].name == "b.kvz");
  const std::string pax = tar_entry({"pax", "19 path=./long.kvz\n", "", 'x'});
  CHECK(members_of(pax + tar_entry(kA) + kTarEnd).at(0).name == "long.kvz");
  CHECK(members_of(tar_entry({"pax", "30 mtime=1732904432.123456789\n", "", 'x'}) + archive).size() == 2);
  CHECK(refused(dotted(kA) + tar_entry(kA) + kTarEnd) == ErrorCode::corrupt);
  for (const char* name : {"././a.kvz", "./", ".//a.kvz", "./../a.kvz", "./x/a.kvz", "./."}) {
    CAPTURE(name);
    CHECK(refused(tar_entry({name, kA.content}) + kTarEnd) == ErrorCode::unsupported);
  }
  for (const char* name : {"./x/", "x/", "../", ".", "/"}) {
    CAPTURE(name);
    CHECK(refused(tar_entry({name, "", "", '5'}) + tar_entry(kA) + kTarEnd) == ErrorCode::unsupported);
  }
  CHECK(refused(tar_entry({"./", "x", "", '5'}) + kTarEnd) == ErrorCode::unsupported);
}

TEST_CASE("collection: what is left of one that was cut") {
  const std::string whole = tar_entry(kA) + tar_entry(kB) + kTarEnd;
  const auto left = [](const std::string& archive) { return salvage_collection(InputFile(view(archive), "all.tar")); };
  CHECK_FALSE(left(whole).why.has_value());
  CHECK(left(whole).members.size() == 2);
  for (std::size_t length = 0; length < whole.size(); length += 53) {
    CAPTURE(length);
    const CutCollection cut = left(whole.substr(0, length));
    REQUIRE(cut.why.has_value());
    CHECK(cut.why->code() == ErrorCode::truncated);
    REQUIRE(cut.members.size() == (length > 1536 ? 2u : length > 512 ? 1u : 0u));
    if (length > 512) CHECK(cut.members[0].bytes == std::min<std::size_t>(13, length - 512));
    if (length > 1536) CHECK(cut.members[1].bytes == std::min<std::size_t>(608, length - 1536));
  }
  // A header that is damaged hides what follows.
  std::string bad = whole;
  bad[1024 + 3] ^= 1;
  CHECK(left(bad).members.size() == 1);
  CHECK(left(bad).why->code() == ErrorCode::corrupt);
}

TEST_CASE("collection: sizes that lie") {
  const auto with = [](const std::string& size) {
    TarEntry entry = kA;
    entry.size = size;
    return refused(tar_entry(entry) + kTarEnd);
  };
  CHECK(with("-0000000015") == ErrorCode::corrupt);
  CHECK(with("00000000018") == ErrorCode::corrupt);
  CHECK(with(std::string(12, '\0')) == ErrorCode::corrupt);
  CHECK(with(std::string(12, ' ')) == ErrorCode::corrupt);
  CHECK(with("777777777777") == ErrorCode::truncated);
  CHECK(with(size_field({0xff, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 243})) == ErrorCode::corrupt);
  CHECK(with(size_field({0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255})) == ErrorCode::truncated);
  CHECK(with(size_field({0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 254, 0})) == ErrorCode::truncated);
  CHECK(with(size_field({0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})) == ErrorCode::limit);
  CHECK(with(size_field({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13})) == ErrorCode::limit);
  CHECK_FALSE(with(size_field({0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13})).has_value());
  CHECK_FALSE(with("         15 ").has_value());
}

TEST_CASE("collection: sizes of 8 GiB and more are in base 256") {
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 33;
  const auto text = [](std::uint64_t bytes) {
    const auto field = make_tar_size(bytes);
    CHECK(parse_tar_size(field) == bytes);
    return std::string(field.data(), field.size());
  };
  CHECK(text(0) == std::string("00000000000\0", 12));
  CHECK(text(kEnd - 1) == std::string("77777777777\0", 12));
  CHECK(text(kEnd) == size_field({0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0}));
  CHECK(text(kEnd + 513) == size_field({0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 1}));
  CHECK(text(~std::uint64_t{0}) == size_field({0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}));
  // A file with holes, of a member of that size and one behind it.
  const ScratchDirectory scratch;
  TarEntry large = kA;
  large.size = text(kEnd + 1);
  const std::string path = scratch.file("all.tar", tar_entry(large));
  std::filesystem::resize_file(path, 512 + kEnd + 512);
  std::ofstream(path, std::ios::binary | std::ios::app) << tar_entry(kB) << kTarEnd;
  const auto members = read_collection(InputFile(path));
  REQUIRE(members.size() == 2);
  CHECK(members[0].bytes == kEnd + 1);
  CHECK(members[1].begin == 512 + kEnd + 512 + 512);
  CHECK(read_text(InputFile(path + "/b.kvz"), 7, 2) == "\nb");
}

TEST_CASE("collection: too many members") {
  std::string archive;
  for (std::size_t i = 0; i <= limits::kCollectionMembers; ++i) archive += tar_entry({std::to_string(i), kMagic});
  CHECK(refused(archive + kTarEnd) == ErrorCode::limit);
  archive.resize(archive.size() - 1024);
  CHECK(members_of(archive + kTarEnd).size() == limits::kCollectionMembers);
}

TEST_CASE("collection: a name that leads into one opens a member") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("all.tar", tar_entry(kA) + tar_entry(kB) + kTarEnd);
  scratch.file("c.kvz", kA.content);
  const InputFile a(path + "/a.kvz"), b(path + "/b.kvz");
  CHECK(a.path() == path + "/a.kvz");
  CHECK(a.size() == 13);
  CHECK(read_text(a, 8, 5) == "first");
  CHECK(code_of([&] { read_text(a, 9, 5); }) == ErrorCode::truncated);
  CHECK(read_text(InputFile(b.reopen_path()), 606, 2) == "bb");
  Bytes some(9);
  InputStream stream = a.stream(8, 5, "a");
  CHECK(stream.read(some) == 5);
  CHECK(some[0] == std::byte{'f'});
  CHECK(collection_of(path + "/none") == path);
  CHECK(stored_bytes(path + "/b.kvz") == 608);
  CHECK(stored_bytes(path) == 3072 + 512);
  CHECK_FALSE(stored_bytes(path + "/none").has_value());
  CHECK(member_paths(path) == std::vector{path + "/a.kvz", path + "/b.kvz"});
  for (const char* name : {"/none", "/", "/../c.kvz", "/a.kvz/", "/x/a.kvz", "//a.kvz", "/c.kvz"}) {
    CAPTURE(name);
    CHECK(code_of([&] { InputFile(path + name); }) == ErrorCode::io);
  }
  CHECK(code_of([&] { InputFile(scratch.file("c.kvz") + "/a.kvz"); }) == ErrorCode::io);
  CHECK(code_of([&] { open_reader(path); }) == ErrorCode::unsupported);
  CHECK(code_of([&] { open_reader(view(content_of(path)).first(1024), "cut"); }) == ErrorCode::truncated);
}

TEST_CASE("collection: written as members come, without those that were not finished") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("all.tar"), name = std::string(146, 'n') + ".kvz";
  CollectionWriter all(path, false);
  const auto add = [&](const std::string& as, const std::string& content, bool finish) {
    const auto sink = all.add(as);
    sink->append(view(content).first(4));
    sink->append(view(content).subspan(4));
    if (finish) sink->finish();
  };
  add("a.kvz", kA.content, true);
  CHECK(read_text(all.member("a.kvz"), 8, 5) == "first");
  CHECK(InputFile(all.path_of("a.kvz")).size() == 13);
  add("lost.kvz", container(std::string(100000, 'l')), false);
  CHECK(InputFile(all.path_of("a.kvz")).size() == 13);
  add(name, kB.content, true);
  for (const char* bad : {"a.kvz", "", "x/y", ".."}) {
    CHECK(code_of([&] { all.add(bad); }) == ErrorCode::invalid_argument);
  }
  CHECK(all.size() == 2);
  CHECK_FALSE(std::filesystem::exists(path));
  all.finish();
  const std::string archive = content_of(path);
  CHECK(archive.size() == 10240);  // what tar calls a record
  const auto members = members_of(archive);
  REQUIRE(members.size() == 2);
  CHECK(members[1].name == name);
  CHECK(archive.substr(members[1].begin, members[1].bytes) == kB.content);
  // ustar, field by field: only its owner's, of nobody, of no time.
  CHECK(archive.substr(0, 6) == std::string("a.kvz\0", 6));
  CHECK(archive.substr(100, 57) == std::string("0000600\0"
                                               "0000000\0"
                                               "0000000\0"
                                               "00000000015\0"
                                               "00000000000\0"
                                               "010145\0 "
                                               "0",
                                               57));
  CHECK(archive.substr(257, 8) == std::string("ustar\00000", 8));
  CHECK(archive.substr(1536, 160) == "160 path=" + name + "\n");
  CHECK(code_of([&] { CollectionWriter(path, false); }) == ErrorCode::invalid_argument);
}

TEST_CASE("collection: as private as the most private of what went in") {
  const ScratchDirectory scratch;
  ::chmod(scratch.file("open", "x").c_str(), 0644);
  ::chmod(scratch.file("secret", "x").c_str(), 0600);
  const InputScope scope;
  const auto mode_with = [&](const std::vector<std::string>& inputs) {
    const std::string path = scratch.file("all.tar");
    CollectionWriter all(path, true);
    std::filesystem::remove(path);
    for (const std::string& input : inputs) {
      forget_inputs();
      const InputFile in(scratch.file(input));
      const auto sink = all.add(input);
      sink->append(view(kMagic));
      sink->finish();
    }
    all.finish();
    return mode_of(path);
  };
  CHECK(mode_with({"secret", "open"}) == 0600);
  CHECK(mode_with({"open"}) == (0644 & mode_with({})));
}

}  // namespace kvzip
