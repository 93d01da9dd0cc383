#pragma once

namespace millrace {

// The whole program: reads command line, environment and configuration, runs the verb, returns its
// exit code. For the main() of a program of its own; called first, before any thread exists.
int main(int argc, char** argv);

}  // namespace millrace
