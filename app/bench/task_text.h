#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millrace {

// The tasks of the bench: number n has one of `key_count` keys, and a payload of 300 bytes that
// holds n at its beginning, so that a reader tells which task it sees.
std::string bench_key(int64_t n, int64_t key_count);
std::string bench_payload(int64_t n, int64_t key_count);
// The number in such a payload; -1 if it is none.
int64_t bench_number(std::string_view payload);

// The same in SQL, over `n`; `$1` is the number of keys.
constexpr std::string_view kBenchKeySql = "'o-' || lpad((n * 7919 % $1)::text, 9, '0')";
constexpr std::string_view kBenchPayloadSql =
    "'{\"n\":\"' || lpad(n::text, 12, '0') || '\",\"order\":{\"id\":\"o-' || "
    "lpad((n * 7919 % $1)::text, 9, '0') || '\"},\"customer\":{\"id\":\"c-' || "
    "lpad((n % 9973)::text, 9, '0') || '\"},\"amount_cents\":' || (1000 + n % 9000)::text || "
    "',\"placed_at\":\"2026-01-01T00:00:00Z\",\"note\":\"' || rpad(n::text, 154, "
    "'deliver between eight and ten, ring twice, ') || '\"}'";
constexpr std::string_view kBenchTaskType = "OrderPlaced";
constexpr size_t kBenchPayloadBytes = 300;

}  // namespace millrace
