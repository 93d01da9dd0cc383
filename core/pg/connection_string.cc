#include "core/pg/connection_string.h"

#include <libpq-fe.h>

#include <memory>
#include <string_view>

#include "core/failure.h"

namespace millrace::pg {

namespace {

std::string in_quotes(std::string_view value) {
    std::string text = "'";
    for (const char c : value) {
        if (c == '\'' || c == '\\') text += '\\';
        text += c;
    }
    return text + "'";
}

}  // namespace

std::string with_database(const std::string& url, const std::string& database) {
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
        PQconninfoParse(url.c_str(), nullptr), &PQconninfoFree);
    if (!options) throw misconfigured("config", "postgres.url is no connection string of libpq");
    std::string text = "dbname=" + in_quotes(database);
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
        if (option->val == nullptr || std::string_view(option->keyword) == "dbname") continue;
        text += std::string(" ") + option->keyword + "=" + in_quotes(option->val);
    }
    return text;
}

}  // namespace millrace::pg
