#include "schema/base64.h"

#include <openssl/evp.h>

namespace millrace {

std::string encode_base64(std::string_view bytes) {
    std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                       reinterpret_cast<const unsigned char*>(bytes.data()),
                                       static_cast<int>(bytes.size()));
    text.resize(static_cast<size_t>(length));
    return text;
}

std::optional<std::string> decode_base64(std::string_view text) {
    // OpenSSL takes padding in odd places for zeros.
    const size_t end = text.find('=');
    if (text.size() % 4 != 0 || (end != std::string_view::npos && end + 2 < text.size())) {
        return std::nullopt;
    }
    if (end != std::string_view::npos && text.back() != '=') return std::nullopt;
    std::string bytes(text.size() / 4 * 3, '\0');
    const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                       reinterpret_cast<const unsigned char*>(text.data()),
                                       static_cast<int>(text.size()));
    if (length != static_cast<int>(bytes.size())) return std::nullopt;
    // OpenSSL counts the padding's zero bytes in.
    for (size_t padding = 0; padding < 2 && !text.empty() && text.back() == '='; ++padding) {
        bytes.pop_back();
        text.remove_suffix(1);
    }
    return bytes;
}

}  // namespace millrace
