#include "core/check.h"

#include <cstdio>
#include <cstdlib>

namespace millrace {

void fail_check(const char* condition, std::string_view text, const char* file, int line) {
    std::fprintf(stderr, "check failed: %.*s (%s) at %s:%d\n", static_cast<int>(text.size()),
                 text.data(), condition, file, line);
    std::abort();
}

}  // namespace millrace
