package command

// Unpack is how a tar is unpacked, for its tests.
var Unpack = unpack
