package pgtest

// Fill is what gives a data folder its copy of the shared cluster.
var Fill = fill
