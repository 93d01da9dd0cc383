#pragma once

#include <span>
#include <string_view>

namespace millrace {

// One file of schema/migrations, compiled in. Forward only; never edited once landed.
struct Migration {
    int version;
    std::string_view name;
    std::string_view sql;
};

// In ascending order of version.
std::span<const Migration> migrations();

}  // namespace millrace
