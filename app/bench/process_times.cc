#include "app/bench/process_times.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace millrace {

namespace {

namespace fs = std::filesystem;

// Of /proc/PID/stat, counted from the state, which follows the name in parentheses.
struct Stat {
    std::string name;
    std::vector<std::string> fields;

    pid_t parent() const { return static_cast<pid_t>(std::stol(fields.at(1))); }
    double seconds(size_t first, size_t last) const {
        double ticks = 0;
        for (size_t i = first; i <= last; ++i) ticks += std::stod(fields.at(i));
        return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
    }
};
constexpr size_t kOwnFirst = 11;  // utime, stime
constexpr size_t kOwnLast = 12;
constexpr size_t kReapedLast = 14;  // cutime, cstime

Stat stat_of(const std::string& pid) {
    std::ifstream file("/proc/" + pid + "/stat");
    std::string text;
    std::getline(file, text);
    const size_t open = text.find('(');
    const size_t close = text.rfind(')');
    Stat stat;
    if (open == std::string::npos || close == std::string::npos) return stat;
    stat.name = text.substr(open + 1, close - open - 1);
    std::istringstream rest(text.substr(close + 1));
    for (std::string field; rest >> field;) stat.fields.push_back(field);
    return stat;
}

bool is_number(const std::string& text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

std::set<std::string> socket_inodes(pid_t pid) {
    std::set<std::string> inodes;
    std::error_code gone;
    for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", gone)) {
        const std::string target = fs::read_symlink(entry.path(), gone).string();
        if (target.rfind("socket:[", 0) == 0) inodes.insert(target.substr(8, target.size() - 9));
    }
    return inodes;
}

}  // namespace

double cpu_seconds(pid_t pid) {
    const Stat stat = stat_of(std::to_string(pid));
    return stat.fields.empty() ? 0 : stat.seconds(kOwnFirst, kReapedLast);
}

double cpu_seconds_of_postgres(pid_t postmaster) {
    double sum = cpu_seconds(postmaster);
    for (const auto& entry : fs::directory_iterator("/proc")) {
        const std::string pid = entry.path().filename().string();
        if (!is_number(pid)) continue;
        const Stat stat = stat_of(pid);
        if (stat.fields.empty() || stat.parent() != postmaster) continue;
        sum += stat.seconds(kOwnFirst, kOwnLast);
    }
    return sum;
}

double resident_mebibytes(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
    long total = 0;
    long resident = 0;
    file >> total >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1048576.0;
}

pid_t local_postmaster(pg::Session& session) {
    const Stat backend = stat_of(std::to_string(session.backend_pid()));
    return backend.name == "postgres" ? backend.parent() : 0;
}

std::set<int> local_ports(pid_t pid, int remote_port) {
    const std::set<std::string> inodes = socket_inodes(pid);
    std::set<int> ports;
    for (const std::string table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        std::ifstream file(table);
        std::string line;
        std::getline(file, line);
        while (std::getline(file, line)) {
            std::istringstream words(line);
            std::vector<std::string> fields;
            for (std::string field; words >> field;) fields.push_back(field);
            if (fields.size() < 10 || !inodes.contains(fields[9])) continue;
            const auto port_of = [](const std::string& address) {
                return std::stoi(address.substr(address.rfind(':') + 1), nullptr, 16);
            };
            if (port_of(fields[2]) == remote_port) ports.insert(port_of(fields[1]));
        }
    }
    return ports;
}

}  // namespace millrace
