#include "core/uuid.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace millrace {
namespace {

constexpr std::string_view kText = "0190b2f0-7a3c-7def-8123-456789abcdef";

TEST(Uuid, PrintsWhatItParsed) { EXPECT_EQ(Uuid::parse(kText).value().text(), kText); }

TEST(Uuid, ParsesUpperCase) {
    EXPECT_EQ(Uuid::parse("0190B2F0-7A3C-7DEF-8123-456789ABCDEF"), Uuid::parse(kText));
}

TEST(Uuid, HasItsBytesInTheOrderOfTheText) {
    const Uuid uuid = Uuid::parse(kText).value();

    EXPECT_EQ(uuid.bytes[0], 0x01);
    EXPECT_EQ(uuid.bytes[7], 0xEF);
    EXPECT_EQ(uuid.bytes[15], 0xEF);
    EXPECT_EQ(Uuid::from_bytes(uuid.view().data()), uuid);
}

TEST(Uuid, RefusesWhatIsNotCanonical) {
    EXPECT_EQ(Uuid::parse(""), std::nullopt);
    EXPECT_EQ(Uuid::parse(kText.substr(1)), std::nullopt);
    EXPECT_EQ(Uuid::parse("0190b2f0-7a3c-7def-8123-456789abcdef0"), std::nullopt);
    EXPECT_EQ(Uuid::parse("0190b2f07a3c7def8123456789abcdef"), std::nullopt);
    EXPECT_EQ(Uuid::parse("{190b2f0-7a3c-7def-8123-456789abcdef"), std::nullopt);
    EXPECT_EQ(Uuid::parse("0190b2f0-7a3c-7def-8123-456789abcdeg"), std::nullopt);
    EXPECT_EQ(Uuid::parse("0190b2f0_7a3c_7def_8123_456789abcdef"), std::nullopt);
}

TEST(Uuid, RandomOnesAreOfVersionFour) {
    for (int i = 0; i < 100; ++i) {
        const std::string text = Uuid::random().text();
        EXPECT_EQ(text[14], '4') << text;
        EXPECT_NE(std::string("89ab").find(text[19]), std::string::npos) << text;
    }
}

// As other implementations make it of this name in RFC 4122's space of domain names.
TEST(Uuid, OfANameIsOfVersionFive) {
    const Uuid domains = *Uuid::parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8");

    EXPECT_EQ(Uuid::of_name(domains, "www.example.com").text(),
              "2ed6657d-e927-568b-95e1-2665a8aea6a2");
}

TEST(Uuid, RandomOnesDiffer) {
    std::set<Uuid> seen;

    for (int i = 0; i < 1000; ++i) seen.insert(Uuid::random());

    EXPECT_EQ(seen.size(), 1000U);
}

}  // namespace
}  // namespace millrace
