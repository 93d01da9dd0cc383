#pragma once

#include <functional>
#include <string>

#include "core/failure.h"

namespace millrace::test {

// The Failure that `call` throws; one of kind kFatal, reason `nothing_thrown` if it throws none.
inline Failure failure_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Failure& failure) {
        return failure;
    }
    return fatal("nothing_thrown", "");
}

// The SQLSTATE of the Failure that `call` throws; `none` if it throws none.
inline std::string sqlstate_of(const std::function<void()>& call) {
    const Failure failure = failure_of(call);
    return failure.reason() == "nothing_thrown" ? "none" : failure.sqlstate();
}

}  // namespace millrace::test
