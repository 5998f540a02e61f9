package fleet

// ExportError is for its own test.
var ExportError = exportError
