#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace millrace {

struct SpawnOptions {
    std::string program;                   // Its path.
    std::vector<std::string> arguments;    // Its name first.
    std::vector<std::string> environment;  // `NAME=value`.
    std::string log;                       // Path to which both its outputs are appended.
    // Of processes, so that a terminal's Ctrl-C passes it by.
    bool has_own_group = false;
};

// Starts a program that is killed when the calling thread ends. Returns its pid; -1 if the system
// has no process left. One that can't be run, or whose log can't be written, ends with code 127.
pid_t spawn(SpawnOptions options);

// As a shell says it: the exit code, or 128 and the number of the signal.
int exit_code_of(int wait_status);

}  // namespace millrace
