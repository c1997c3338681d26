// SPDX-License-Identifier: Apache-2.0
#include "formats/json_fields.hpp"

#include <doctest/doctest.h>

#include <functional>

#include "kvzip/error.hpp"

namespace kvzip::test {

enum class Colour : std::uint8_t { red, blue };
std::string_view json_name(Colour c) {
  return c == Colour::red ? "red" : "blue";
}
bool from_json_name(std::string_view text, Colour& c) {
  c = text == "blue" ? Colour::blue : Colour::red;
  return text == "red" || text == "blue";
}

struct Wheel {
  std::uint8_t spokes = 0;
  std::optional<double> width;  // null for none
};
void fields(auto& visit, Is<Wheel> auto& w) {
  visit("spokes", w.spokes);
  visit("width", w.width);
}
struct Cart {
  std::string name;
  Colour colour = Colour::red;
  std::vector<Wheel> wheels;
  std::optional<std::uint32_t> load;  // absent for none
};
void fields(auto& visit, Is<Cart> auto& c) {
  visit("name", c.name);
  visit("colour", c.colour);
  visit("wheels", c.wheels);
  visit.optional("load", c.load);
}

namespace {

Cart cart_of(const char* text) {
  const auto json = nlohmann::json::parse(text);
  Cart cart;
  JsonReader(json, "cart", JsonNumbers::any).read(cart);
  return cart;
}
std::string said(const char* text, ErrorCode code) {
  try {
    cart_of(text);
  } catch (const Error& e) {
    CHECK(e.code() == code);
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("json fields: members in declared order; nothing is null, or not there where it is optional") {
  const Cart cart{"c", Colour::blue, {{8, 1.5}, {6, std::nullopt}}, std::nullopt};
  CHECK(json_of(cart).dump() ==
        R"({"name":"c","colour":"blue","wheels":[{"spokes":8,"width":1.5},{"spokes":6,"width":null}]})");
  CHECK(json_of(Cart{"", Colour::red, {}, 7}).dump() == R"({"name":"","colour":"red","wheels":[],"load":7})");
}

TEST_CASE("json fields: what is read is what was written, and other members are left alone") {
  const Cart cart = cart_of(
      R"({"load":4294967295,"x":[],"colour":"blue","wheels":[{"width":-2,"spokes":255},{"width":null,"spokes":0}],"name":"n"})");
  CHECK(cart.name == "n");
  CHECK(cart.colour == Colour::blue);
  REQUIRE(cart.wheels.size() == 2);
  CHECK(cart.wheels[0].spokes == 255);
  CHECK(cart.wheels[0].width == -2.0);
  CHECK_FALSE(cart.wheels[1].width);
  CHECK(cart.load == 4294967295u);
  CHECK_FALSE(cart_of(R"({"name":"n","colour":"red","wheels":[]})").load);
}

TEST_CASE("json fields: errors name the member") {
  CHECK(said("[]", ErrorCode::corrupt) == "cart: this is not an object");
  CHECK(said(R"({"name":"n","wheels":[]})", ErrorCode::corrupt) == "cart: colour is missing");
  CHECK(said(R"({"name":"n","colour":"grey","wheels":[]})", ErrorCode::unsupported) ==
        "cart: colour is 'grey', which this version does not know");
  CHECK(said(R"({"name":"n","colour":1,"wheels":[]})", ErrorCode::corrupt) == "cart: colour is not text");
  CHECK(said(R"({"name":"n","colour":"red","wheels":{}})", ErrorCode::corrupt) == "cart: wheels is not a list");
  CHECK(said(R"({"name":"n","colour":"red","wheels":[{"spokes":256,"width":1}]})", ErrorCode::corrupt) ==
        "cart: wheels[0].spokes is not a whole number of its range");
  CHECK(said(R"({"name":"n","colour":"red","wheels":[{"spokes":-1,"width":1}]})", ErrorCode::corrupt) ==
        "cart: wheels[0].spokes is not a whole number of its range");
  CHECK(said(R"({"name":"n","colour":"red","wheels":[{"spokes":1,"width":"1"}]})", ErrorCode::corrupt) ==
        "cart: wheels[0].width is not a number");
  CHECK(said(R"({"name":"n","colour":"red","wheels":[],"load":null})", ErrorCode::corrupt) ==
        "cart: load is not a whole number of its range");
}

}  // namespace kvzip::test
