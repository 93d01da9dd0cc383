#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace millrace {

// Sixteen bytes as PostgreSQL's binary format has them. A value; compares bytewise.
struct Uuid {
    std::array<unsigned char, 16> bytes{};

    // Random, version 4.
    static Uuid random();
    // Version 5: the same for the same name in the same space. Source: RFC 4122, section 4.3.
    static Uuid of_name(const Uuid& space, std::string_view name);
    // The canonical text with hyphens, in either case; anything else is nullopt.
    static std::optional<Uuid> parse(std::string_view text);
    static Uuid from_bytes(const char* bytes);

    std::string text() const;
    std::string_view view() const {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    friend bool operator==(const Uuid&, const Uuid&) = default;
    friend auto operator<=>(const Uuid&, const Uuid&) = default;
};

}  // namespace millrace
