package catalog

// For their own tests.
var (
	FairParts = fairParts
	Exposed   = exposed
)
