// Package queue wraps River, once: it wakes workers and runs periodic work, on
// tables of its own in the catalog database. It is a hint and never the truth:
// what a job finds to do stands in our own rows, so that a job which runs twice,
// or is lost with its process and comes again at its next period, does no harm.
package queue
