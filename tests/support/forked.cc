#include "tests/support/forked.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/support/eventually.h"

namespace millrace::test {

Forked::Forked(const std::function<void()>& run) : pid_(fork()) {
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ > 0) return;
    run();
    _exit(0);
}

Forked::~Forked() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
}

void Forked::signal(int number) const { kill(pid_, number); }

bool Forked::wait_stopped(std::chrono::milliseconds limit) {
    return eventually(limit, [&] {
        int status = 0;
        return waitpid(pid_, &status, WNOHANG | WUNTRACED) == pid_ && WIFSTOPPED(status);
    });
}

}  // namespace millrace::test
