#pragma once

#include <string_view>

namespace millrace {

// Ends the process after printing what was expected. State lives in PostgreSQL and Kafka, so
// stopping is always safe, and going on after a broken invariant never is.
[[noreturn]] void fail_check(const char* condition, std::string_view text, const char* file,
                             int line);

}  // namespace millrace

// A programmer's error, checked in every build type.
#define MILLRACE_CHECK(condition, text)                                       \
    do {                                                                      \
        if (!(condition)) [[unlikely]]                                        \
            ::millrace::fail_check(#condition, (text), __FILE__, __LINE__);   \
    } while (false)
