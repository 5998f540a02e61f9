package cli

// For their own tests.
var (
	PlanLines   = planLines
	DryRunLines = dryRunLines
)
