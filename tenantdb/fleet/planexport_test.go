package fleet

// Waves is for its own test.
var Waves = waves
