#include "core/pg/params.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

namespace millrace::pg {
namespace {

// Bytes as array_recv of PostgreSQL's arrayfuncs.c takes them: dimensions, has-null flag, element
// oid, length, lower bound, then each element's length and bytes.
std::string bytes(std::initializer_list<int> values) {
    std::string text;
    for (const int value : values) text.push_back(static_cast<char>(value));
    return text;
}

std::string value_of(const Params& params, size_t index) {
    const Params::Wire wire = params.wire();
    return {wire.values[index], static_cast<size_t>(wire.lengths[index])};
}

TEST(ArrayBuilder, WritesNumbersInNetworkOrder) {
    ArrayBuilder array(Type::kInt2);
    array.add_int2(1);
    array.add_int2(-2);

    EXPECT_EQ(array.take(), bytes({0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 21, 0, 0, 0, 2, 0, 0, 0, 1,  //
                                   0, 0, 0, 2, 0, 1, 0, 0, 0, 2, 0xFF, 0xFE}));
}

TEST(ArrayBuilder, WritesEachWidthWithItsLength) {
    ArrayBuilder four(Type::kInt4);
    four.add_int4(258);
    ArrayBuilder eight(Type::kInt8);
    eight.add_int8(-1);

    EXPECT_EQ(four.take().substr(20), bytes({0, 0, 0, 4, 0, 0, 1, 2}));
    EXPECT_EQ(eight.take().substr(20),
              bytes({0, 0, 0, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}));
}

TEST(ArrayBuilder, MarksANull) {
    ArrayBuilder array(Type::kText);
    array.add_bytes("ab");
    array.add_null();

    EXPECT_EQ(array.take(), bytes({0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1,  //
                                   0, 0, 0, 2, 'a', 'b', 0xFF, 0xFF, 0xFF, 0xFF}));
}

TEST(ArrayBuilder, TellsAnEmptyTextFromNull) {
    ArrayBuilder array(Type::kText);
    array.add_bytes("");

    EXPECT_EQ(array.take().substr(20), bytes({0, 0, 0, 0}));
}

TEST(ArrayBuilder, WritesBooleansAsOneByte) {
    ArrayBuilder array(Type::kBool);
    array.add_bool(true);
    array.add_bool(false);

    EXPECT_EQ(array.take().substr(20), bytes({0, 0, 0, 1, 1, 0, 0, 0, 1, 0}));
}

TEST(ArrayBuilder, IsEmptyAfterItWasTaken) {
    ArrayBuilder array(Type::kText);
    array.add_null();
    array.take();

    EXPECT_EQ(array.size(), 0);
    EXPECT_EQ(array.take(),
              bytes({0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 0, 0, 0, 0, 1}));
}

TEST(Params, SendsEachTypeInBinary) {
    Params params;
    params.int2(1).int4(2).int8(3).boolean(true).text("t").bytea(std::string_view("\0", 1));

    EXPECT_EQ(value_of(params, 0), bytes({0, 1}));
    EXPECT_EQ(value_of(params, 1), bytes({0, 0, 0, 2}));
    EXPECT_EQ(value_of(params, 2), bytes({0, 0, 0, 0, 0, 0, 0, 3}));
    EXPECT_EQ(value_of(params, 3), bytes({1}));
    EXPECT_EQ(value_of(params, 4), "t");
    EXPECT_EQ(value_of(params, 5), bytes({0}));
    EXPECT_EQ(params.wire().types, (std::vector<unsigned>{21, 23, 20, 16, 25, 17}));
    EXPECT_EQ(params.wire().formats, std::vector<int>(6, 1));
}

// libpq takes a null pointer for SQL NULL, so an empty text needs an address.
TEST(Params, TellsAnEmptyTextFromNull) {
    Params params;
    params.text("").null(Type::kText).borrow(25, {}).optional_text(std::nullopt);

    const Params::Wire wire = params.wire();

    EXPECT_NE(wire.values[0], nullptr);
    EXPECT_EQ(wire.values[1], nullptr);
    EXPECT_NE(wire.values[2], nullptr);
    EXPECT_EQ(wire.values[3], nullptr);
}

TEST(Params, KeepsTheBytesOfATextThatIsGone) {
    Params params;
    for (int i = 0; i < 100; ++i) params.text(std::string(100, static_cast<char>('a' + i % 26)));

    EXPECT_EQ(value_of(params, 0), std::string(100, 'a'));
    EXPECT_EQ(value_of(params, 27), std::string(100, 'b'));
}

TEST(Params, GivesAnArrayTheOidOfItsArrayType) {
    ArrayBuilder ids(Type::kUuid);
    ArrayBuilder texts(Type::kText);
    Params params;
    params.array(ids).array(texts);

    EXPECT_EQ(params.wire().types, (std::vector<unsigned>{2951, 1009}));
}

}  // namespace
}  // namespace millrace::pg
