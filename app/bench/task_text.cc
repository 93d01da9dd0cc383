#include "app/bench/task_text.h"

#include <charconv>

namespace millrace {

namespace {

constexpr std::string_view kBegin = "{\"n\":\"";
constexpr std::string_view kFill = "deliver between eight and ten, ring twice, ";
constexpr size_t kNumberWidth = 12;
constexpr size_t kIdWidth = 9;
constexpr size_t kNoteWidth = 154;

std::string padded(int64_t value, size_t width) {
    const std::string digits = std::to_string(value);
    return std::string(width - digits.size(), '0') + digits;
}

std::string note(int64_t n) {
    std::string text = std::to_string(n);
    for (size_t i = 0; text.size() < kNoteWidth; ++i) text += kFill[i % kFill.size()];
    return text;
}

}  // namespace

std::string bench_key(int64_t n, int64_t key_count) {
    return "o-" + padded(n * 7919 % key_count, kIdWidth);
}

std::string bench_payload(int64_t n, int64_t key_count) {
    return std::string(kBegin) + padded(n, kNumberWidth) + "\",\"order\":{\"id\":\"" +
           bench_key(n, key_count) + "\"},\"customer\":{\"id\":\"c-" + padded(n % 9973, kIdWidth) +
           "\"},\"amount_cents\":" + std::to_string(1000 + n % 9000) +
           ",\"placed_at\":\"2026-01-01T00:00:00Z\",\"note\":\"" + note(n) + "\"}";
}

int64_t bench_number(std::string_view payload) {
    if (payload.size() < kBegin.size() + kNumberWidth || !payload.starts_with(kBegin)) return -1;
    int64_t n = -1;
    const char* digits = payload.data() + kBegin.size();
    std::from_chars(digits, digits + kNumberWidth, n);
    return n;
}

}  // namespace millrace
