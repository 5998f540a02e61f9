// Package lint reads migrations before anybody runs them. It finds what rewrites a
// table or holds a lock that stops reads or writes, what the release before would trip
// over while both run, what can't be tried again after a failure, and what reaches
// outside of the stream's own objects. Each finding says where, why, and what is safe.
//
// It looks at the text alone and asks no database: it knows what the files themselves
// made, in order, and takes any other table for a large one in use. What one file has
// made is empty while that file runs, and may be treated in any way.
//
// Statements are split by goose's rules and read by PostgreSQL's own parser, that of
// version 17, compiled to WebAssembly and run inside the process: no C compiler is
// needed. The parser starts at the first Check, which takes a second or two of one
// core and about 250 MB for as long; a statement then takes a tenth of a millisecond,
// and 10 MB stay; the binary grows by some 7 MB. One instance serves the whole process,
// one statement at a time. So this is for the command line and for tests, not for the
// path of a request.
//
// The bodies of functions and of DO blocks are strings to that parser, and are not
// judged: what a function does when it is called is out of sight, and a DO block is
// itself a finding. Only "freehold." is looked for inside.
package lint
