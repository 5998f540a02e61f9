// Package child runs programs of this repository as child processes of a test:
// the real binary as an operator starts it, and an object store that Freehold
// didn't start.
//
// Every wait has a bound, every child is in a process group of its own, and none
// outlives its test, also when the test process is killed (on Linux). It knows
// nothing of what the programs do.
package child
