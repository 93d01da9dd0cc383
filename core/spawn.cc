#include "core/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace millrace {

namespace {

// As a shell says that there is no such program.
constexpr int kNotStarted = 127;

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

pid_t spawn(SpawnOptions options) {
    // All that allocates is done before the fork: another thread may hold the allocator's lock.
    const std::vector<char*> arguments = pointers_to(options.arguments);
    const std::vector<char*> environment = pointers_to(options.environment);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(kNotStarted);  // It died before the line above.
    if (options.has_own_group) setpgid(0, 0);
    const int log = open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log < 0) _exit(kNotStarted);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execve(options.program.c_str(), arguments.data(), environment.data());
    _exit(kNotStarted);
}

int exit_code_of(int wait_status) {
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace millrace
