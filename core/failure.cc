#include "core/failure.h"

#include <utility>

namespace millrace {

std::string_view name_of(FailureKind kind) {
    switch (kind) {
        case FailureKind::kTransient: return "transient";
        case FailureKind::kUnknown: return "unknown";
        case FailureKind::kLost: return "lost";
        case FailureKind::kPoison: return "poison";
        case FailureKind::kHalt: return "halt";
        case FailureKind::kFatal: return "fatal";
    }
    return "invalid";
}

Failure::Failure(FailureKind kind, std::string reason, std::string detail)
    : kind_(kind), reason_(std::move(reason)), detail_(std::move(detail)) {
    what_ = reason_ + ": " + detail_;
}

Failure&& Failure::with_sqlstate(std::string_view sqlstate) && {
    sqlstate_ = sqlstate;
    return std::move(*this);
}

Failure&& Failure::with_exit_code(int exit_code) && {
    exit_code_ = exit_code;
    return std::move(*this);
}

Failure transient(std::string reason, std::string detail) {
    return {FailureKind::kTransient, std::move(reason), std::move(detail)};
}

Failure unknown(std::string reason, std::string detail) {
    return {FailureKind::kUnknown, std::move(reason), std::move(detail)};
}

Failure lost(std::string reason, std::string detail) {
    return {FailureKind::kLost, std::move(reason), std::move(detail)};
}

Failure poison(std::string reason, std::string detail) {
    return {FailureKind::kPoison, std::move(reason), std::move(detail)};
}

Failure halt(std::string reason, std::string detail) {
    return {FailureKind::kHalt, std::move(reason), std::move(detail)};
}

Failure fatal(std::string reason, std::string detail) {
    return {FailureKind::kFatal, std::move(reason), std::move(detail)};
}

Failure misconfigured(std::string reason, std::string detail) {
    return fatal(std::move(reason), std::move(detail)).with_exit_code(kExitConfiguration);
}

bool ends_program(const Failure& failure) {
    return failure.kind() == FailureKind::kFatal && failure.reason() != "pg_refused";
}

}  // namespace millrace
