// SPDX-License-Identifier: Apache-2.0
//
// The commands of the binary. Each gets its own arguments (argv[0] is the command's name), prints to stdout what it was
// asked for and to stderr what went wrong, and returns the exit code: 0 done, 1 not done (for `status`: 1 warning, 2
// critical), 2 bad usage (EXIT_USAGE), 75 a dependency was not reachable in time, 78 bad configuration. None of them
// calls exit().
#ifndef RELAY_CLI_COMMANDS_H
#define RELAY_CLI_COMMANDS_H

#define RELAY_EXIT_USAGE       2
#define RELAY_EXIT_STUCK       70 // EX_SOFTWARE: a part of the daemon hung; a supervisor should start it again
#define RELAY_EXIT_UNREACHABLE 75 // EX_TEMPFAIL
#define RELAY_EXIT_CONFIG      78 // EX_CONFIG
// Or-ed to a code: end the process at once, without exit handlers (a thread hangs and may use what they free).
#define RELAY_EXIT_AT_ONCE 0x100

int command_run(int argc, char **argv);
int command_check(int argc, char **argv);
int command_migrate(int argc, char **argv);
int command_status(int argc, char **argv);
int command_dead_letters(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_version(void); // prints the versions of the relay and its libraries

#endif
