#include "core/uuid.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <cstring>

#include "core/check.h"

namespace millrace {

namespace {

int hex_value(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

bool is_hyphen_place(size_t index) {
    return index == 8 || index == 13 || index == 18 || index == 23;
}

}  // namespace

Uuid Uuid::random() {
    Uuid uuid;
    MILLRACE_CHECK(RAND_bytes(uuid.bytes.data(), 16) == 1, "the system gives random bytes");
    uuid.bytes[6] = static_cast<unsigned char>((uuid.bytes[6] & 0x0F) | 0x40);
    uuid.bytes[8] = static_cast<unsigned char>((uuid.bytes[8] & 0x3F) | 0x80);
    return uuid;
}

Uuid Uuid::of_name(const Uuid& space, std::string_view name) {
    std::string text(space.view());
    text += name;
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    MILLRACE_CHECK(EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha1(),
                              nullptr) == 1,
                   "SHA-1 is there");
    Uuid uuid;
    std::memcpy(uuid.bytes.data(), digest.data(), 16);
    uuid.bytes[6] = static_cast<unsigned char>((uuid.bytes[6] & 0x0F) | 0x50);
    uuid.bytes[8] = static_cast<unsigned char>((uuid.bytes[8] & 0x3F) | 0x80);
    return uuid;
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != 36) return std::nullopt;
    Uuid uuid;
    size_t nibble = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        if (is_hyphen_place(i)) {
            if (text[i] != '-') return std::nullopt;
            continue;
        }
        const int value = hex_value(text[i]);
        if (value < 0) return std::nullopt;
        unsigned char& byte = uuid.bytes[nibble / 2];
        byte = static_cast<unsigned char>(byte << 4 | value);
        ++nibble;
    }
    return uuid;
}

Uuid Uuid::from_bytes(const char* bytes) {
    Uuid uuid;
    std::memcpy(uuid.bytes.data(), bytes, 16);
    return uuid;
}

std::string Uuid::text() const {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text(36, '-');
    size_t nibble = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        if (is_hyphen_place(i)) continue;
        const int byte = bytes[nibble / 2];
        text[i] = kDigits[nibble % 2 == 0 ? byte >> 4 : byte & 0x0F];
        ++nibble;
    }
    return text;
}

}  // namespace millrace
