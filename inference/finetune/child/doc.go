// Package child runs a command as a guest of this machine: after everybody else
// for processor and disk, on the cores it was given, in an environment that holds
// no secret, and never longer than the process that asked for it.
//
// Between that process (the worker) and the command stands a guard: our own binary
// once more. It holds one end of a pipe; the kernel closes the other when the
// worker dies, however that happens, and the guard then kills all that the command
// has started. On Linux no process gets away: what leaves the group is the guard's
// child as soon as its parent is gone. Elsewhere the group alone is killed, and
// neither cores nor the disk's turn are set.
//
// The package knows nothing of jobs and models.
package child
