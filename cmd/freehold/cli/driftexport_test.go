package cli

// DriftLines is for its own test.
var DriftLines = driftLines
