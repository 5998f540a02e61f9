package inference

// ParsePredict is parsePredict, for fuzzing.
var ParsePredict = parsePredict
