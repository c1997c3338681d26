// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <stdlib.h>

#include <algorithm>

#include "kvzip/error.hpp"
#include "src/report/gnuplot.hpp"
#include "src/report/markup.hpp"
#include "src/report/plot_style.hpp"
#include "src/sweep/plot_labels.hpp"
#include "src/sweep/sweep_report.hpp"
#include "tests/support/made_up_sweep.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using namespace kvzip::tool;

namespace {

SettingResult setting(std::uint64_t bytes, std::optional<double> k, std::optional<double> v = {}) {
  SettingResult s;
  s.file_bytes = bytes;
  if (k) s.all.key.emplace().nrmse = *k;
  if (v) s.all.value.emplace().nrmse = *v;
  return s;
}

const Measure& measure(std::string_view id) {
  return find_measure(id, Sweep{});
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// Fields of a line, with commas inside quotes.
std::vector<std::string> fields(std::string_view line) {
  std::vector<std::string> out(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    if (c == ',' && !quoted) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

std::vector<std::string> lines(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string refusal(const std::string& text) {
  try {
    read_sweep(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Runs f with another search path for programs.
template <typename F>
void with_path(const char* path, F&& f) {
  const char* old = getenv("PATH");
  const std::string before = old != nullptr ? old : "";
  setenv("PATH", path, 1);
  f();
  setenv("PATH", before.c_str(), 1);
}

}  // namespace

TEST_CASE("sweep: measures") {
  const FidelitySummary errors = test::made_up_errors(0.1, true);
  CHECK(*measure("attention").of(errors) == doctest::Approx(0.08));
  CHECK(*measure("kl").of(errors) == doctest::Approx(0.01));
  CHECK(*measure("logits").of(errors) == doctest::Approx(0.15));
  CHECK(*measure("attention2").of(errors) == doctest::Approx(0.09));
  CHECK(*measure("kl2").of(errors) == doctest::Approx(0.02));
  CHECK(*measure("proxy").of(errors) == doctest::Approx(0.07));
  CHECK(*measure("pair").of(errors) == doctest::Approx(0.11));
  CHECK(*measure("k-nrmse").of(errors) == doctest::Approx(0.1));
  CHECK(*measure("v-nrmse").of(errors) == doctest::Approx(0.2));
  // sqrt((0.01 + 0.04) / 2)
  CHECK(*measure("nrmse").of(errors) == doctest::Approx(0.158113883));
  CHECK(*measure("nrmse").of(setting(1, 0.3).all) == 0.3);
  for (const Measure& m : measures()) CHECK_FALSE(m.of(FidelitySummary{}));
  CHECK_THROWS_AS(measure("nope"), Error);
}

TEST_CASE("sweep: the default measure is the best that all dumps have") {
  Sweep sweep = test::made_up_sweep();
  CHECK(find_measure("", sweep).id == "proxy");  // the second dump has no queries
  sweep.dumps.pop_back();
  CHECK(find_measure("", sweep).id == "attention");
  sweep.dumps[0].settings = {setting(1, 0.1, 0.2)};
  CHECK(find_measure("", sweep).id == "nrmse");
  CHECK_THROWS_AS(find_measure("kl", sweep), Error);
}

TEST_CASE("sweep: the Pareto front") {
  SweepDump dump;
  dump.settings = {setting(100, 0.5), setting(200, 0.4), setting(200, 0.3), setting(300, 0.3),    setting(100, 0.5),
                   setting(400, 0),   setting(50, {}),   setting(60, NAN),  setting(90, INFINITY)};
  // 200 at 0.4 and 300 at 0.3 are beaten by 200 at 0.3; equal settings do not beat each other; the smallest file of a
  // useless setting is beaten by none.
  CHECK(pareto_front(dump, measure("k-nrmse")) ==
        std::vector<bool>{true, false, true, false, true, true, false, false, true});
  CHECK(pareto_front(SweepDump{}, measure("kl")).empty());
}

TEST_CASE("sweep: a heading names no measure that nothing has") {
  SweepDump dump;
  dump.settings = {setting(100, 0.5), setting(200, {})};
  const auto title = [&](std::string_view id) { return sweep_tables(dump, measure(id)).at(0).title; };
  CHECK(title("k-nrmse") == "Rate, error and speed; * = Pareto-optimal in bytes and nrmse of keys");
  CHECK(title("v-nrmse") == "Rate, error and speed; no setting has nrmse of values");
  dump.settings = {setting(100, {})};
  CHECK(title("attention") == "Rate and speed; no error could be measured");
}

TEST_CASE("sweep: JSON there and back") {
  const Sweep sweep = test::made_up_sweep();
  const std::string text = sweep_json(sweep).dump();
  const Sweep back = read_sweep(text);
  CHECK(sweep_json(back).dump() == text);
  const SettingResult& one = back.dumps.at(0).settings.at(3);
  CHECK(one.name == "int8");
  CHECK(one.bytes == sweep.dumps[0].settings[3].bytes);
  CHECK(one.all.attention->kl == sweep.dumps[0].settings[3].all.attention->kl);
  CHECK(one.layers.at(3).heads.at(1).key->nrmse == sweep.dumps[0].settings[3].layers[3].heads[1].key->nrmse);
  CHECK(one.chunks.at(1).first == 256);
  CHECK(back.dumps[0].settings[0].all.key->snr_db == INFINITY);
  CHECK_FALSE(back.dumps[1].settings[0].all.attention);
  // Derived figures stand there for other readers: 4.5 bits are 18432 bytes of 65536.
  const Json json = Json::parse(text);
  CHECK(json["schema"] == 1);
  CHECK(json["dumps"][1]["settings"][0]["bits_per_value"] == doctest::Approx(4.5));
  CHECK(json["dumps"][1]["settings"][0]["ratio"] == doctest::Approx(65536 / 18432.0));
  CHECK(json["dumps"][1]["settings"][0]["ratio_to_int8"] == doctest::Approx(33000 / 18432.0));
  CHECK(sweep_json(read_sweep(sweep_json(Sweep{}).dump())).dump() == sweep_json(Sweep{}).dump());
}

TEST_CASE("sweep: an error without end survives JSON") {
  Sweep sweep = test::made_up_sweep();
  auto& key = *sweep.dumps[0].settings[0].all.key;
  key.nrmse = INFINITY;
  key.snr_db = -double{INFINITY};
  const Sweep back = read_sweep(sweep_json(sweep).dump());
  CHECK(back.dumps[0].settings[0].all.key->nrmse == INFINITY);
  CHECK(back.dumps[0].settings[0].all.key->snr_db == -INFINITY);
}

TEST_CASE("sweep: other JSON is refused") {
  const std::string text = sweep_json(test::made_up_sweep()).dump();
  for (std::size_t cut = 0; cut < text.size(); cut += 997) CHECK_FALSE(refusal(text.substr(0, cut)).empty());
  for (const char* other : {"", "[]", "{}", "null", "{\"kind\":\"sweep\"}", "{\"kind\":\"bench\",\"schema\":1}",
                            "{\"kind\":\"sweep\",\"schema\":-1}", "{\"kind\":\"sweep\",\"schema\":1}"}) {
    CAPTURE(other);
    CHECK_FALSE(refusal(other).empty());
  }
  CHECK(refusal("{\"kind\":\"sweep\",\"schema\":2}").find("schema 2") != std::string::npos);
  // A tree costs far more memory than its text, so its depth is judged first: 17 is one too many.
  CHECK(refusal(std::string(17, '[') + std::string(17, ']')).find("nested") != std::string::npos);
  CHECK(refusal(std::string(16, '[') + std::string(16, ']')).find("nested") == std::string::npos);
  const auto with = [&](auto change) {
    Json json = Json::parse(text);
    change(json["dumps"][0]["settings"][0]);
    return refusal(json.dump());
  };
  CHECK(with([](Json& s) { s["file_bytes"] = -1; }).find("dumps[0].settings[0].file_bytes") != std::string::npos);
  CHECK(with([](Json& s) { s["file_bytes"] = 1.5; }).find("whole number") != std::string::npos);
  CHECK(with([](Json& s) { s["worst_layer"] = 4294967296ull; }).find("worst_layer") != std::string::npos);
  CHECK(with([](Json& s) { s["name"] = 7; }).find("text") != std::string::npos);
  CHECK(with([](Json& s) { s["layers"] = 7; }).find("list") != std::string::npos);
  CHECK(with([](Json& s) { s["bytes"].erase("tables"); }).find("bytes.tables is missing") != std::string::npos);
  CHECK(with([](Json& s) { s["errors"]["key"]["nrmse"] = "x"; }).find("errors.key.nrmse") != std::string::npos);
  CHECK(with([](Json& s) { s["more"] = 1; }).empty());
}

TEST_CASE("sweep: tables") {
  const Sweep sweep = test::made_up_sweep();
  const Measure& m = measure("attention");
  const auto tables = sweep_tables(sweep.dumps[0], m);
  REQUIRE(tables.size() == 6);
  for (const SweepTable& table : tables) {
    REQUIRE(table.rows.size() == sweep.dumps[0].settings.size());
    CHECK(table.rows.front().front() == "kvtc-2");
    CHECK(table.rows.back().front() == "zstd-19");
    for (const auto& row : table.rows) CHECK(row.size() == table.columns.size());
  }
  CHECK(std::count_if(tables[0].rows.begin(), tables[0].rows.end(), [](const auto& r) { return r[1] == "*"; }) == 7);
  // 4.5 bits of 32768 values: 18432 bytes, of 65536 and against 33000.
  const auto other = sweep_tables(sweep.dumps[1], m);
  REQUIRE(other.size() == 4);  // no attention
  CHECK(other[0].rows[0] == std::vector<std::string>{"int4", "", "18.43 kB", "3.56", "1.79", "4.500", "0.09", "0.18",
                                                     "812", "1500", "1.23 MB", "2"});
  CHECK(other[3].title.find("roxies") != std::string::npos);
  for (const SweepTable& table : {tables[0], tables[1]}) {
    for (const std::string& column : table.columns) CHECK(column.find("proxy") == std::string::npos);
  }
  const auto layers = layer_tables(sweep.dumps[1], m);
  REQUIRE(layers.size() == 2);
  CHECK(layers[0].rows.size() == 4);
  for (const auto& row : layers[0].rows) CHECK(row.size() == layers[0].columns.size());
}

TEST_CASE("sweep: text and Markdown") {
  const Sweep sweep = test::made_up_sweep();
  const Measure& m = measure("nrmse");
  const std::string text = sweep_text(sweep, m, false), more = sweep_text(sweep, m, true);
  CHECK(text.find("positions <assumed>") != std::string::npos);
  CHECK(text.find("kvtc-2: not counted by the original: the basis") != std::string::npos);
  CHECK(text.find("layers, and heads") == std::string::npos);
  CHECK(more.find("int4: layers, and heads") != std::string::npos);
  for (const std::string& line : lines(text)) {
    if (line.starts_with("int") || line.starts_with("setting")) CHECK(line.size() <= 175);
  }
  const std::string markdown = sweep_markdown(sweep, m, true);
  CHECK(markdown.find("\\<script\\>boom()\\</script\\> \\| \\*") != std::string::npos);
  std::size_t cells = 0;
  for (const std::string& line : lines(markdown)) {
    const std::size_t now = line.starts_with("|") ? count(line, "|") - count(line, "\\|") : 0;
    if (cells > 0 && now > 0) CHECK(now == cells);
    cells = now;
  }
}

TEST_CASE("sweep: CSV has every figure in every line's place") {
  const Sweep sweep = test::made_up_sweep();
  const auto all = lines(sweep_csv(sweep, measure("attention")));
  // A setting, its 4 layers, 2 heads of each.
  CHECK(all.size() == 1 + 22 * (1 + 4 + 8));
  const auto names = fields(all[0]);
  const auto column = [&](std::string_view name) {
    const auto at = std::find(names.begin(), names.end(), name);
    REQUIRE(at != names.end());
    return static_cast<std::size_t>(at - names.begin());
  };
  for (const std::string& line : all) CHECK(fields(line).size() == names.size());
  const auto first = fields(all[1]), layer = fields(all[2]), head = fields(all[3]);
  CHECK(first[column("setting")] == "\"kvtc-2\"");
  CHECK(first[column("scope")] == "file");
  CHECK(first[column("pareto")] == "1");
  CHECK(first[column("bytes")] == "6635");  // 1.62 * 4096
  CHECK(first[column("codes_bytes")] == "6375");
  CHECK(first[column("worst_layer")] == "2");
  CHECK(std::stod(first[column("error")]) == doctest::Approx(0.262 * 0.8));
  CHECK(std::stod(first[column("proxy_pair_nrmse")]) == doctest::Approx(0.262 * 1.1));
  CHECK(layer[column("scope")] == "layer");
  CHECK(layer[column("layer")] == "0");
  CHECK(std::stod(layer[column("key_bits")]) == doctest::Approx(829 * 8 / 4096.0));
  CHECK(head[column("scope")] == "head");
  CHECK(head[column("head")] == "0");
  CHECK(std::stod(head[column("value_nrmse")]) == doctest::Approx(0.524));
  CHECK(head[column("bytes")].empty());
}

TEST_CASE("sweep: text that is safe in pages") {
  CHECK(escape_markup("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
  CHECK(plain_text("a\x1b\n") == "a\\x1b\\x0a");
  CHECK(plain_text("\xff<") == "\\xff<");
  CHECK(plain_text("sch\xc3\xb6n", 7) == "sch\xc3\xb6n");
  CHECK(plain_text("abcdefgh", 6) == "abc...");
  CHECK(plain_text("abc\xc3\xb6zzz", 7) == "abc...");  // the fourth letter has two bytes
  CHECK(gnuplot_quoted("it's\n'") == "'it''s\\x0a'''");
}

TEST_CASE("sweep: labels hide neither points nor each other") {
  LabelSpace space({0, 0}, {400, 300});
  space.add_point({100, 100});
  space.add_point({112, 100});  // where the label would stand
  const auto first = space.place("name", 10, {{100, 100}});
  REQUIRE(first);
  CHECK((first->left.y < 95 || first->left.y > 105 || first->left.x + 23 < 95));
  const auto edge = space.place("at the edge", 10, {{395, 200}});
  REQUIRE(edge);
  CHECK(edge->left.x + 0.58 * 10 * 11 < 395);
  const auto again = space.place("name", 10, {{100, 100}}, 15.0);
  if (again) CHECK((again->left.x != first->left.x || again->left.y != first->left.y));
  CHECK_FALSE(space.place("far too long for so small a space, whatever side it stands on, so that it is left out", 10,
                          {{200, 200}}, 15.0));
}

TEST_CASE("sweep: plots show names as text, in light and dark") {
  const test::ScratchDirectory scratch;
  Sweep sweep = test::made_up_sweep();
  SettingResult& hostile = sweep.dumps[0].settings.back();
  hostile.name =
      "x'\nsystem('touch " + scratch.file("touched") + "')\n`touch " + scratch.file("touched") + "` <script> ^2_{3}";
  const Measure& m = measure("attention");
  const std::string svg = plot_sweep(sweep, m, "svg");
  CHECK(scratch.entries() == 0);
  CHECK(svg.find("<script") == std::string::npos);
  CHECK(count(svg, "<svg") == 1);
  CHECK(svg.find("prefers-color-scheme:dark") != std::string::npos);
  CHECK(svg.find("rgb(") == std::string::npos);
  for (const char* text : {">kvtc<", ">cachegen<", ">lossless<", ">exact<", "a&lt;b onclick=", "nothing to draw"}) {
    CAPTURE(text);
    CHECK(svg.find(text) != std::string::npos);
  }
  CHECK(plot_sweep(sweep, m, "png").substr(1, 3) == "PNG");
  CHECK_NOTHROW(plot_sweep(Sweep{}, m, "svg"));
}

TEST_CASE("sweep: plots are files like any other output") {
  const test::ScratchDirectory scratch;
  Sweep sweep = test::made_up_sweep();
  const Measure& m = measure("nrmse");
  const std::string path = scratch.file("it's a plot.svg", "precious");
  CHECK_THROWS_AS(write_plot(path, sweep, m, false), Error);
  CHECK(test::content_of(path) == "precious");
  write_plot(path, sweep, m, true);
  CHECK(test::content_of(path).find("<svg") != std::string::npos);
  CHECK(scratch.entries() == 1);
  CHECK(plot_format("a.b.png") == "png");
  for (const char* name : {"plot", "plot.pdf", "svg", ".svg.gz"}) CHECK_THROWS_AS(plot_format(name), Error);
}

TEST_CASE("sweep: without gnuplot the error says what to install") {
  with_path("/nonexistent", [] {
    for (const auto& act :
         {std::function<void()>(require_gnuplot), std::function<void()>([] { run_gnuplot("exit\n"); })}) {
      try {
        act();
        FAIL("found gnuplot");
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::io);
        CHECK(std::string(error.what()).find("gnuplot-nox") != std::string::npos);
      }
    }
  });
  CHECK_NOTHROW(require_gnuplot());
  CHECK_THROWS_AS(run_gnuplot("no such command\n"), Error);
}

TEST_CASE("sweep: the page holds everything and nothing of others") {
  const Sweep sweep = test::made_up_sweep();
  const std::string page = sweep_html(sweep, measure("nrmse"));
  CHECK(count(page, "<svg") == 2);
  CHECK(count(page, "<script>") == 1);  // its own
  CHECK(page.find("<b onclick") == std::string::npos);
  CHECK(page.find("boom()</") == std::string::npos);
  CHECK(page.find("&lt;profiled&gt;") != std::string::npos);
  CHECK(page.find("positions &lt;assumed&gt;") != std::string::npos);
  CHECK(page.find("kvzip compress &#39;a.safetensors&#39; --preset kvtc-3") != std::string::npos);
  CHECK(page.find("No queries") != std::string::npos);
  for (const char* outside : {"<link", "<img", "@import", "url(", "https:"})
    CHECK(page.find(outside) == std::string::npos);
  CHECK(count(page, "http:") == count(page, "http://www.w3.org/"));  // names of XML, never fetched
  // The browser test opens this page while no command makes one.
  if (const char* path = getenv("KVZIP_TEST_PAGE")) write_report(path, sweep, measure("nrmse"), true);
}
