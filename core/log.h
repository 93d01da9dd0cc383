#pragma once

#include <chrono>
#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

namespace millrace {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

struct LogField {
    std::string_view name;
    std::string value;
    bool is_number = false;

    LogField(std::string_view field, std::string_view text) : name(field), value(text) {}
    LogField(std::string_view field, const char* text) : name(field), value(text) {}
    LogField(std::string_view field, const std::string& text) : name(field), value(text) {}
    template <std::integral Number>
    LogField(std::string_view field, Number number)
        : name(field), value(std::to_string(number)), is_number(true) {}
};

struct LogOptions {
    std::string level = "info";   // debug, info, warn, error.
    std::string format = "auto";  // text, json; auto: text on a terminal.
    std::string instance = "";    // In every line of the JSON form, when not empty.
    // A line whose duration_ms is above it says slow=true.
    std::chrono::milliseconds slow_after{1000};
};

// Sets the process's log up, which goes to standard error. Before it is called lines are text at
// level info.
void set_up_log(const LogOptions& options);

// One line: fixed text, then keys. Any thread. Never a payload, never a secret (STYLE: debug per
// batch, info state changes, warn recovered, error an operator must act).
void log(LogLevel level, std::string_view component, std::string_view text,
         std::initializer_list<LogField> fields = {});
bool is_logged(LogLevel level);
// The level of a line about one batch: info if it was slow, else debug.
LogLevel level_of_batch(std::chrono::milliseconds duration);

}  // namespace millrace
