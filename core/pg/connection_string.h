#pragma once

#include <string>

namespace millrace::pg {

// What leads to the server and role of `url`, in any of libpq's forms, but to another database. In
// libpq's keyword form. Throws kFatal `config` if libpq can't read `url`.
std::string with_database(const std::string& url, const std::string& database);

}  // namespace millrace::pg
