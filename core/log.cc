#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/check.h"

namespace millrace {

namespace {

// Written once, before there is a second thread.
struct Setting {
    bool json = false;
    std::string instance;
    std::chrono::milliseconds slow_after{1000};
} setting;

spdlog::level::level_enum level_of(LogLevel level) {
    switch (level) {
        case LogLevel::kDebug: return spdlog::level::debug;
        case LogLevel::kInfo: return spdlog::level::info;
        case LogLevel::kWarn: return spdlog::level::warn;
        case LogLevel::kError: return spdlog::level::err;
    }
    return spdlog::level::err;
}

bool needs_quotes(std::string_view value) {
    if (value.empty()) return true;
    for (const char c : value) {
        if (c == ' ' || c == '"' || c == '=' || static_cast<unsigned char>(c) < 0x20) return true;
    }
    return false;
}

nlohmann::ordered_json json_value(const LogField& field) {
    if (!field.is_number) return field.value;
    return nlohmann::ordered_json::parse(field.value);
}

// Bytes that are not UTF-8 are replaced rather than refused: a log line must never throw.
std::string dump(const nlohmann::ordered_json& value) {
    return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

bool is_slow(std::initializer_list<LogField> fields) {
    for (const LogField& field : fields) {
        if (field.name != "duration_ms" || !field.is_number) continue;
        return std::stoll(field.value) > setting.slow_after.count();
    }
    return false;
}

std::string as_text(std::string_view component, std::string_view text,
                    std::initializer_list<LogField> fields) {
    std::string line(text);
    line.append(" component=").append(component);
    for (const LogField& field : fields) {
        line.append(" ").append(field.name).append("=");
        line.append(needs_quotes(field.value) ? dump(field.value) : field.value);
    }
    if (is_slow(fields)) line.append(" slow=true");
    return line;
}

// The fields of one JSON object; the sink's pattern puts time and level before them.
std::string as_json(std::string_view component, std::string_view text,
                    std::initializer_list<LogField> fields) {
    nlohmann::ordered_json object;
    object["component"] = component;
    object["text"] = text;
    for (const LogField& field : fields) object[std::string(field.name)] = json_value(field);
    if (is_slow(fields)) object["slow"] = true;
    if (!setting.instance.empty()) object["instance"] = setting.instance;
    return dump(object).substr(1);
}

}  // namespace

void set_up_log(const LogOptions& options) {
    const spdlog::level::level_enum level = spdlog::level::from_str(options.level);
    // It would be silent else.
    MILLRACE_CHECK(level != spdlog::level::off, "the level is debug, info, warn or error");
    setting.json = options.format == "json" ||
                   (options.format == "auto" && isatty(STDERR_FILENO) == 0);
    setting.instance = options.instance;
    setting.slow_after = options.slow_after;

    auto logger = std::make_shared<spdlog::logger>(
        "millrace", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    logger->set_level(level);
    logger->flush_on(spdlog::level::debug);
    logger->set_pattern(setting.json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v)"
                                     : "%H:%M:%S.%e %^%5l%$ %v");
    spdlog::set_default_logger(logger);
}

void log(LogLevel level, std::string_view component, std::string_view text,
         std::initializer_list<LogField> fields) {
    if (!is_logged(level)) return;
    spdlog::default_logger_raw()->log(
        level_of(level), setting.json ? as_json(component, text, fields)
                                      : as_text(component, text, fields));
}

LogLevel level_of_batch(std::chrono::milliseconds duration) {
    return duration > setting.slow_after ? LogLevel::kInfo : LogLevel::kDebug;
}

bool is_logged(LogLevel level) {
    return spdlog::default_logger_raw()->should_log(level_of(level));
}

}  // namespace millrace
